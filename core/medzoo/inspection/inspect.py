"""What a model has learned of its labels: their tokens as maps and matrices, and where an image attends to each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medzoo._version import __version__
from medzoo.data.images import to_uint8
from medzoo.errors import ConfigError, UnknownName
from medzoo.generation.mixture import Source, load_from
from medzoo.generation.plan import file_safe, make_plan
from medzoo.hub.repositories import check_source
from medzoo.inspection import figures
from medzoo.inspection.label_space import MIN_PCA, MIN_TSNE, LabelSpace, label_space
from medzoo.models.labels import label_tensor
from medzoo.models.loading import LoadedModel
from medzoo.protocols import AttentionMaps, Generator, LabelTokens
from medzoo.runs.identity import claim
from medzoo.runs.progress import Progress, no_progress
from medzoo.runs.record import RunRecord, read_run
from medzoo.storage.files import write_atomic


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which model, into which folder, and of which classes (all if empty) to draw `count` images with attention."""

    generator: str
    out: Path
    labels: tuple[str, ...] = ()
    count: int = 1
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Images uint8 (N, C, H, W) with maps (N, tokens, h, w) that sum to 1 over tokens; image i is of `labels[i]`."""

    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    images: np.ndarray
    maps: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found and written: files, what was left out and why, and whether it had been there before."""

    folder: Path
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    already_done: bool


def inspect(
    request: Request,
    source: Source,
    *,
    progress: Progress = no_progress,
) -> Inspection:
    """Look at the labels of a model and leave pictures, tables and run.json in a folder.

    `progress` is told how many of the images with attention are drawn.

    Raises:
        ConfigError: the model has no label tokens.
        UnknownName: an unknown model or class.
        DataError: the folder holds another job.
        HubError: weights that cannot be had or are damaged.
    """
    record = RunRecord(job="inspect", folder=request.out)
    check_source(request.generator, source.mirror)
    model = load_from(request.generator, source)
    labels = _chosen(request, model)
    if not isinstance(model.model, LabelTokens):
        raise ConfigError(
            f"'{model.name}' has no label tokens to look at", f"its generator, {model.spec.name}, embeds no labels"
        )
    space = label_space(model, seed=request.seed)
    claim(request.out, _identity(request, model, labels, source))
    finished = read_run(request.out)
    if finished is not None:
        return _told(request.out, finished, already_done=True)
    attention = attended(model, labels, count=request.count, seed=request.seed, progress=progress)
    files = {**_tables(space), **_pictures(space, model.name)}
    if attention is not None:
        files["attention.csv"] = _attention_table(attention)
        files["attention.png"] = figures.attention(attention, title=model.name)
    for name, content in files.items():
        write_atomic(request.out / name, content)
    _finish(record, request, model, source, files=sorted(files), space=space, left_out=_left_out(space, attention))
    written = read_run(request.out)
    assert written is not None  # it was written the line before
    return _told(request.out, written, already_done=False)


def attended(
    model: LoadedModel[Generator], labels: Sequence[str], *, count: int, seed: int, progress: Progress = no_progress
) -> Attention | None:
    """The first `count` images of each label that `medzoo sample` draws from `seed`, and where each token was attended.

    None for a model without cross-attention.
    """
    if not isinstance(model.model, AttentionMaps):
        return None
    plan = make_plan(
        dict.fromkeys(labels, count),
        names=(file_safe(model.name),),
        shares=(Fraction(1),),
        batch_size=count,
        seed=seed,
    )
    pictures = list(plan.pictures())
    images: list[np.ndarray] = []
    maps: list[Tensor] = []
    for number, label in enumerate(labels):
        progress(number * count, len(pictures))
        seeds = [plan.seed_of(picture) for picture in pictures if picture.label == label]
        drawn, attention = model.model.attention_maps(seeds, label_tensor(model.image, [label] * count))
        images.append(to_uint8(drawn))
        maps.append(attention.cpu())
    progress(len(pictures), len(pictures))
    return Attention(
        labels=tuple(picture.label for picture in pictures),
        seeds=tuple(map(plan.seed_of, pictures)),
        images=np.concatenate(images),
        maps=torch.cat(maps).numpy(),
    )


def _chosen(request: Request, model: LoadedModel[Generator]) -> tuple[str, ...]:
    for label in request.labels:
        if label not in model.image.classes:
            raise UnknownName("class", label, model.image.classes, f"(the classes of '{model.name}')")
    return tuple(dict.fromkeys(request.labels)) or model.image.classes


def _identity(request: Request, model: LoadedModel[Generator], labels: Sequence[str], source: Source) -> dict[str, Any]:
    return {
        "job": "inspect",
        "medzoo": __version__,
        "model": {"plugin": model.spec.name, "weights_sha256": model.weights_sha256, "config": model.config.flat()},
        "labels": list(labels),
        "n": request.count,
        "seed": request.seed,
        "device": source.device.partition(":")[0],
    }


def _told(folder: Path, record: dict[str, Any], *, already_done: bool) -> Inspection:
    files = tuple(str(output["file"]) for output in record["outputs"])
    return Inspection(folder=folder, files=files, left_out=tuple(record["left_out"]), already_done=already_done)


def _left_out(space: LabelSpace, attention: Attention | None) -> list[str]:
    """What could not be shown, and why, one line each."""
    labels, tokens, _ = space.tokens.shape
    told: list[str] = []
    if space.classes_plane is None:
        told.append(f"PCA of labels: {labels} of them, {MIN_PCA} are needed")
    if space.tokens_plane is None or tokens == 1:
        told.append("PCA of tokens: a label is one vector" if tokens == 1 else "PCA of tokens: too few")
    if space.tsne is None:
        told.append(f"t-SNE: {labels * tokens} tokens in all, too few to have neighbourhoods ({MIN_TSNE} are needed)")
    if attention is None:
        told.append("attention maps: the network has no cross-attention to label tokens")
    return told


def _pictures(space: LabelSpace, title: str) -> dict[str, bytes]:
    made = {
        "distances.png": figures.distances(space, title=title),
        "norms.png": figures.norms(space, title=title),
    }
    if space.classes_plane is not None:
        made["pca.png"] = figures.planes(space, title=title)
    if space.tsne is not None:
        made["tsne.png"] = figures.tsne(space, title=title)
    return made


def _tables(space: LabelSpace) -> dict[str, bytes]:
    """Each table as CSV; numbers are written so that float32 comes back as it was, float64 too."""
    each = [(label, token) for label in space.labels for token in range(1, space.tokens.shape[1] + 1)]
    vectors = space.tokens.reshape(len(each), -1)
    width = range(vectors.shape[1])
    tables = {
        "tokens.csv": _csv(
            ["label", "token", *(f"v{k}" for k in width)],
            ([*where, *vector] for where, vector in zip(each, vectors.tolist(), strict=True)),
        ),
        "norms.csv": _csv(
            ["label", "token", "norm"],
            ([*where, norm] for where, norm in zip(each, space.norms.ravel().tolist(), strict=True)),
        ),
    }
    for name, matrix in (("cosine", space.cosine), ("euclidean", space.euclidean)):
        rows = ([label, *row] for label, row in zip(space.labels, matrix.tolist(), strict=True))
        tables[f"{name}.csv"] = _csv(["label", *space.labels], rows)
    if space.classes_plane is not None:
        points = space.classes_plane.points.tolist()
        rows = ([label, *point] for label, point in zip(space.labels, points, strict=True))
        tables["pca_labels.csv"] = _csv(["label", "component_1", "component_2"], rows)
    if space.tokens_plane is not None and space.tokens.shape[1] > 1:
        points = space.tokens_plane.points.tolist()
        rows = ([*where, *point] for where, point in zip(each, points, strict=True))
        tables["pca_tokens.csv"] = _csv(["label", "token", "component_1", "component_2"], rows)
    if space.tsne is not None:
        maps = {**{str(k + 1): own for k, own in enumerate(space.tsne.maps)}, "mean": space.tsne.mean}
        rows = (
            [run, *where, *point]
            for run, points in maps.items()
            for where, point in zip(each, points.tolist(), strict=True)
        )
        tables["tsne.csv"] = _csv(["run", "label", "token", "x", "y"], rows)
    return tables


def _attention_table(attention: Attention) -> bytes:
    rows = (
        [label, seed, token + 1, row, column, share]
        for label, seed, own in zip(attention.labels, attention.seeds, attention.maps, strict=True)
        for (token, row, column), share in zip(np.ndindex(own.shape), own.ravel().tolist(), strict=True)
    )
    return _csv(["label", "seed", "token", "row", "column", "share"], rows)


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue().encode()


def _finish(
    record: RunRecord,
    request: Request,
    model: LoadedModel[Generator],
    source: Source,
    *,
    files: Sequence[str],
    space: LabelSpace,
    left_out: Sequence[str],
) -> None:
    record.config = model.config.flat()
    record.origins = model.config.origins
    record.plugins = [source.plugins.plugin_of("generator", model.spec.name)]
    record.weights = {model.name: model.weights_sha256 or ""}
    record.seeds = {"seed": request.seed}
    record.device = source.device
    plane, tsne = space.classes_plane, space.tsne
    record.scores = {
        **({"pca_labels_explained": list(plane.explained)} if plane is not None else {}),
        **({"tsne_perplexity": tsne.perplexity, "tsne_disparity": tsne.disparity} if tsne is not None else {}),
    }
    record.extra = {"left_out": list(left_out)}
    record.add_outputs(request.out / name for name in files)
    record.finish()
