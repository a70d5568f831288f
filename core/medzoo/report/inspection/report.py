"""The folder of `medzoo inspect`: figures and tables of a model's label tokens and attention, and run.json."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medzoo._version import __version__
from medzoo.errors import ConfigError, UnknownName
from medzoo.generation.mixture import load_from, make_source
from medzoo.hub.repositories import check_source
from medzoo.inspection.attention import SampledAttention, sample_attention
from medzoo.inspection.label_space import MIN_PCA, MIN_TSNE, LabelSpace, label_space
from medzoo.plugins.lookup import load_plugins
from medzoo.protocols import LabelTokens
from medzoo.report.inspection import figures
from medzoo.report.tables import to_csv
from medzoo.runs.identity import lock_run_dir
from medzoo.runs.progress import Progress, no_progress
from medzoo.runs.record import RunRecord, check_finished, read_run
from medzoo.storage.files import remove_partial_files, write_atomic

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The files of an inspection, what was left out and why, and whether the folder had been finished before."""

    folder: Path
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    already_done: bool


def inspect(
    gen: str | Path,
    *,
    out: str | Path,
    labels: str | Sequence[str] | None = None,
    n: int = 1,
    seed: int = 0,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
    source: str | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Inspect what a generator has learned about its class labels; write figures, tables and run.json to `out`.

    The figures compare the labels' embeddings; for a network with cross-attention to label tokens, `n` images of each
    class in `labels`, or of every class, are sampled with attention maps. The same call returns a finished folder,
    and repairs it if files are missing or damaged.
    `progress` is called with the number of images sampled and their total. The other arguments are those of `load`.

    Example:
        >>> found = medzoo.inspect("ddpm-var-udder", out="labels")
        >>> found.files, found.left_out

    Raises:
        ConfigError: the model has no label tokens; and as `load`.
        UnknownName: an unknown model or class.
        DataError: the folder holds another job.
        HubError: weights that cannot be downloaded or are damaged.
    """
    given, folder = str(gen), Path(out)
    record = RunRecord(job="inspect", folder=folder)
    chosen = make_source(load_plugins(), device=device, overrides=settings, mirror=source)
    check_source(given, source)
    model = load_from(given, chosen)
    wanted = tuple(dict.fromkeys([labels] if isinstance(labels, str) else labels or model.image.classes))
    for label in wanted:
        if label not in model.image.classes:
            raise UnknownName("class", label, model.image.classes, f"(the classes of '{model.name}')")
    if not isinstance(model.model, LabelTokens):
        raise ConfigError(
            f"'{model.name}' has no label tokens to inspect", f"its generator, {model.spec.name}, embeds no labels"
        )
    space = label_space(model, seed=seed)
    identity = {
        "job": "inspect",
        "medzoo": __version__,
        "model": {"plugin": model.spec.name, "weights_sha256": model.weights_sha256, "config": model.config.flat()},
        "labels": list(wanted),
        "n": n,
        "seed": seed,
        "device": chosen.device.partition(":")[0],
    }
    lock_run_dir(folder, identity)
    remove_partial_files(folder)
    finished, damaged = check_finished(folder)
    if damaged:
        logger.warning(f"{folder} was finished, but {', '.join(damaged)} is missing or damaged: writing it again")
        finished = None
    if finished is None:
        attention = sample_attention(model, wanted, count=n, seed=seed, progress=progress or no_progress)
        files = inspection_files(space, attention, title=model.name)
        for name, content in files.items():
            write_atomic(folder / name, content)
        record.add_outputs(folder / name for name in sorted(files))
        record.config, record.origins = model.config.flat(), model.config.origins
        record.plugins = [chosen.plugins.plugin_of("generator", model.spec.name)]
        record.weights = {model.name: model.weights_sha256 or ""}
        record.seeds = {"seed": seed}
        record.device = chosen.device
        pca, tsne = space.pca_labels, space.tsne
        record.scores = {
            **({"pca_labels_explained": list(pca.explained)} if pca is not None else {}),
            **({"tsne_perplexity": tsne.perplexity, "tsne_disparity": tsne.disparity} if tsne is not None else {}),
        }
        record.extra = {"left_out": _left_out(space, attention)}
        record.finish()
    written = finished or read_run(folder)
    assert written is not None  # just written
    return Inspection(
        folder=folder,
        files=tuple(str(output["file"]) for output in written["outputs"]),
        left_out=tuple(written["left_out"]),
        already_done=finished is not None,
    )


def _left_out(space: LabelSpace, attention: SampledAttention | None) -> list[str]:
    """Say what could not be shown and why, one line each."""
    labels, tokens, _ = space.tokens.shape
    lines = []
    if space.pca_labels is None:
        lines.append(f"PCA of labels: there are {labels}, and {MIN_PCA} are needed")
    if tokens == 1:
        lines.append("PCA of tokens: each label is a single vector")
    elif space.pca_tokens is None:
        lines.append(f"PCA of tokens: there are {labels * tokens}, and {MIN_PCA} are needed")
    if space.tsne is None:
        lines.append(f"t-SNE: there are {labels * tokens} tokens, and {MIN_TSNE} are needed")
    if attention is None:
        lines.append("attention maps: the network has no cross-attention to label tokens")
    return lines


def inspection_files(space: LabelSpace, attention: SampledAttention | None, *, title: str) -> dict[str, bytes]:
    """Render every figure and table by file name. CSV numbers read back as exactly the float32 or float64 computed."""
    several = space.tokens.shape[1] > 1
    each = [(label, token) for label in space.labels for token in range(1, space.tokens.shape[1] + 1)]
    by_label, by_token, plane = ["label"], ["label", "token"], ["component_1", "component_2"]
    vectors = space.tokens.reshape(len(each), -1)
    tables: dict[str, tuple[list[str], Sequence[Sequence[Any]], np.ndarray]] = {
        "tokens": ([*by_token, *(f"v{k}" for k in range(vectors.shape[1]))], each, vectors),
        "norms": ([*by_token, "norm"], each, space.norms.reshape(-1, 1)),
        "cosine": ([*by_label, *space.labels], [(label,) for label in space.labels], space.cosine),
        "euclidean": ([*by_label, *space.labels], [(label,) for label in space.labels], space.euclidean),
    }
    files = {
        "distances.png": figures.similarities_figure(space, title=title),
        "norms.png": figures.norms_figure(space, title=title),
    }
    if space.pca_labels is not None:
        files["pca.png"] = figures.pca_figure(space, title=title)
        tables["pca_labels"] = ([*by_label, *plane], [(label,) for label in space.labels], space.pca_labels.points)
    if space.pca_tokens is not None and several:
        tables["pca_tokens"] = ([*by_token, *plane], each, space.pca_tokens.points)
    if space.tsne is not None:
        files["tsne.png"] = figures.tsne_figure(space, title=title)
        runs = [*map(str, range(1, len(space.tsne.runs) + 1)), "mean"]
        points = np.concatenate([*space.tsne.runs, space.tsne.mean])
        tables["tsne"] = (["run", *by_token, "x", "y"], [(run, *own) for run in runs for own in each], points)
    if attention is not None:
        files["attention.png"] = figures.attention_figure(attention, title=title)
        keys = [
            (label, seed, token + 1, row, column)
            for label, seed in zip(attention.labels, attention.seeds, strict=True)
            for token, row, column in np.ndindex(attention.maps.shape[1:])
        ]
        tables["attention"] = (
            [*by_label, "seed", "token", "row", "column", "share"],
            keys,
            attention.maps.reshape(-1, 1),
        )
    for name, (columns, index, values) in tables.items():
        files[f"{name}.csv"] = to_csv(([*key, *row] for key, row in zip(index, values.tolist(), strict=True)), columns)
    return files
