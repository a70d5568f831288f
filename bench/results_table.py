"""How near the images of each bundled generator are to real ones, for docs/results.md.

Each generator samples `--n` images per class, which are compared with the images of its data set that it was not
trained on. The data sets do not come with medzoo: --data busi=DIR says where one is.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medzoo.data.dataset import Dataset, open_dataset
from medzoo.evaluation.evaluate import EvaluateRequest
from medzoo.evaluation.model_evaluation import evaluate_model
from medzoo.evaluation.results import MetricResult
from medzoo.generation.mixture import Source, load_from, make_source
from medzoo.hub.registry import CLASSIFIER, GENERATOR, ModelEntry, load_registry
from medzoo.models.devices import hardware, pick_device
from medzoo.plugins.lookup import load_plugins
from medzoo.runs.progress import no_progress

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results.md"
IMAGENET = "efficientnet-lite0"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A generator's results, by metric and extractor, with the numbers of images they are of."""

    entry: ModelEntry
    results: Mapping[str, MetricResult]
    n: int
    held_out: int


def generators() -> list[ModelEntry]:
    """Return the bundled generators in the order of the registry."""
    return [entry for entry in load_registry().entries if entry.kind == GENERATOR]


def domain_classifiers(dataset: str) -> list[str]:
    """Return the bundled classifiers of a data set's classes: one or none."""
    return [entry.id for entry in load_registry().entries if (entry.kind, entry.dataset) == (CLASSIFIER, dataset)]


def measure(entry: ModelEntry, data: Dataset, source: Source, *, n: int) -> Row:
    """Sample from a generator and compare its images with those of `data` that it was not trained on."""
    model = load_from(entry.id, source)
    if data.held_out:
        real, train = next(iter(data.held_out.values())), data.subset(range(len(data)))
    else:
        seen = [fingerprint in model.trained_on for fingerprint in data.fingerprints()]
        real = data.subset([k for k, known in enumerate(seen) if not known])
        train = data.subset([k for k, known in enumerate(seen) if known])
    extractors = [IMAGENET, *domain_classifiers(entry.dataset)]
    metrics = (*(f"kid@{name}" for name in extractors), f"prc@{IMAGENET}", f"nearest-train@{IMAGENET}")
    request = EvaluateRequest(real=real, fake=Path(), train=train, metrics=metrics, leave_out_seen=True)
    measured = evaluate_model(entry.id, request, source, per_class=n, progress=no_progress)
    results = {result.name: result for result in measured.evaluation.results}
    held_out = len(measured.sets["real"].data)
    return Row(entry=entry, results=results, n=n * len(model.image.classes), held_out=held_out)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", action="append", required=True, metavar="NAME=PATH", help="a data set")
    parser.add_argument("--n", type=int, default=100, help="images per class")
    parser.add_argument("--models", nargs="*", help="their ids; all of them if none is given")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=PAGE)
    asked = parser.parse_args()
    folders = dict(text.split("=", 1) for text in asked.data)
    given = " ".join(f"--data {name}=PATH" for name in folders)
    command = f"python bench/results_table.py {given} --n {asked.n} --device {asked.device}"
    device = pick_device(asked.device)
    source, rows = make_source(load_plugins(), device=device), []
    sets = {name: open_dataset(Path(path)) for name, path in folders.items()}
    for entry in generators():
        if entry.dataset in sets and entry.id in (asked.models or [entry.id]):
            rows.append(measure(entry, sets[entry.dataset], source, n=asked.n))
            print(row_of(rows[-1]), flush=True)
            asked.out.write_text(page(rows, command=command, machine=hardware(device)), encoding="utf-8")


def row_of(row: Row) -> str:
    """Return a generator's line of the table: each value is followed by that of real images, where there is one."""
    kids = {name: _value(result) for name, result in row.results.items() if name.startswith("kid@")}
    prc = row.results[f"prc@{IMAGENET}"]
    parts = {} if prc.score is None else prc.score.details
    cells = [f"`{row.entry.id}`", row.entry.dataset, str(row.n), str(row.held_out)]
    cells += [kids.pop(f"kid@{IMAGENET}"), next(iter(kids.values()), "-"), _value(prc)]
    cells += [f"{parts[name]:.2f}" if name in parts else "-" for name in ("precision", "recall")]
    cells += [_value(row.results[f"nearest-train@{IMAGENET}"]), f"{row.entry.bytes / 1e6:.1f}"]
    return f"| {' | '.join(cells)} |"


def _value(result: MetricResult) -> str:
    if result.score is None:
        return "-"
    real = f" ({result.baseline.real:.3f})" if result.baseline is not None else ""
    return f"{result.score.value:.3f}{real}"


def page(rows: Sequence[Row], *, command: str, machine: str) -> str:
    """Return docs/results.md."""
    left = [f"`{entry.id}`" for entry in generators() if entry.id not in {row.entry.id for row in rows}]
    columns = ("model", "data set", "images", "held-out", f"kid@{IMAGENET}", "kid of the classifier", f"prc@{IMAGENET}")
    columns += ("precision", "recall", "nearest-train", "MB")
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *map(row_of, rows)]
    return f"""# Results of the bundled models

Images of each bundled generator, as `medzoo sample` makes them with the settings of its card, compared with the images
of its data set that it was not trained on. In brackets: the same metric between two halves of these real images. The
classifier is the bundled one of the same classes, if there is one. `nearest-train` is the check for memorized training
images, MB the size of the model's files. [Evaluation](metrics.md) explains the metrics. Each class has as many
synthetic images, which is not so of the real ones: a classifier's features see that as a distance too, so its column
compares models of one data set.

{chr(10).join(lines)}

On {machine}, by `{command}`. Not measured: {", ".join(left) or "none"}.
"""


if __name__ == "__main__":
    main()
