"""What a gallery says of augmented data: real and synthetic images by class, counts, what made them, the verdict."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.data.identify import identify_files
from medzoo.data.images import spread
from medzoo.data.marks import TRAINED, Mark
from medzoo.data.metadata import read_metadata
from medzoo.errors import DataError, IntegrityError
from medzoo.evaluation.results import Baseline
from medzoo.report.data.report import thumbnail
from medzoo.report.evaluation.report import EVALUATION
from medzoo.report.page import PageImage
from medzoo.report.tuning import text
from medzoo.runs.record import read_run
from medzoo.storage.files import read_json, sha256_file
from medzoo.tuning.results import TUNING, TuningResult, load_tuning, read_tuning

logger = logging.getLogger(__name__)

# Columns of the table of counts, or how they begin.
_REAL, _SYNTHETIC = "real", "synthetic"
_SHOWN, _SHOWN_OF_MANY, _MANY = 8, 4, 12


@dataclass(frozen=True, kw_only=True)
class ClassPage:
    """A class: a few real and synthetic images of it, and how many there are. `counts` are by column of the table."""

    label: str
    real: tuple[PageImage, ...]
    synthetic: tuple[PageImage, ...]
    counts: Mapping[str, int]

    @property
    def totals(self) -> tuple[int, int]:
        """The number of real and of synthetic images, held-out ones aside."""
        return self.counts[_REAL], sum(count for name, count in self.counts.items() if name.startswith(_SYNTHETIC))


@dataclass(frozen=True, kw_only=True)
class Maker:
    """What made synthetic images: the generator's name, its weights, the strength ("" for none), and their number."""

    name: str
    weights_sha256: str
    strength: str
    images: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """What run.json says of an augmented folder, without paths of the machine that made it."""

    folder: str
    job: str
    medzoo: str
    command: str
    lineage: Mapping[str, Mapping[str, Any]]
    verdict: str


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """A metric of an evaluation, its real-vs-real baseline, and how many images it compared."""

    name: str
    unit: str
    better: str
    value: float
    n_real: int
    n_fake: int
    failed: bool
    baseline: Baseline | None


@dataclass(frozen=True, kw_only=True)
class EvaluationPage:
    """An evaluation: its metrics, and the hashes of the weights that made its synthetic images."""

    folder: str
    rows: tuple[MetricRow, ...]
    weights: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class TuningPage:
    """The verdict of a tuning, its policy in words, and the badge that sums it up."""

    verdict: str
    badge: tuple[str, str]
    policy: tuple[tuple[str, str], ...]
    classifier: str
    generator: str
    weights_sha256: str
    augment: bool
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DataPage:
    """Augmented data. `columns` are those of the table of counts."""

    name: str
    classes: tuple[ClassPage, ...]
    columns: tuple[str, ...]
    makers: tuple[Maker, ...]
    runs: tuple[Run, ...]

    @property
    def shows_real(self) -> int:
        """How many real images the pages show."""
        return sum(len(row.real) for row in self.classes)


def data_page(data: Path | None, augmented: Sequence[Path], *, opened: Callable[[Path], Dataset]) -> DataPage:
    """Describe real images beside synthetic ones.

    The real images are those of `data`, or else of the augmented folders, whose originals they hold; the synthetic ones
    are those of the augmented folders, or else of `data`. `opened` opens one of them.

    Raises: DataError for folders that cannot be read, that hold no synthetic images, or that share no class.
    """
    first = opened(data) if data is not None else None
    made = [opened(path) for path in augmented]
    for one in made or filter(None, [first]):
        if not one.synthetic:
            hint = "give the folder that `medzoo augment` or `medzoo sample` wrote"
            raise DataError(f"{one.path} holds no synthetic images", hint if made else f"{hint}: --augmented DIR")
    everything = made if first is None else [first, *made]
    classes = tuple(dict.fromkeys(label for one in everything for label in one.classes))
    if first is not None and made and not set(first.classes) & {label for one in made for label in one.classes}:
        raise DataError(
            f"{first.path} and {made[0].path} share no class: {', '.join(first.classes)}, and "
            f"{', '.join(made[0].classes)}",
            "give real images and synthetic ones of the same classes",
        )
    reals = [_part(one, synthetic=False) for one in ([first] if first is not None else made)]
    fakes = [_part(one, synthetic=True) for one in (made or everything)]
    held_out = {part: images.counts() for part, images in (first.held_out if first is not None else {}).items()}
    origins = [_origins(one) for one in fakes]
    names = sorted({row.get("generator", "") for rows in origins for row in rows})
    shown = _SHOWN if len(classes) <= _MANY else _SHOWN_OF_MANY
    rows_by_path = {one.path: known for one, known in zip(fakes, origins, strict=True)}
    rows = []
    for label in classes:
        made_by = Counter(
            row.get("generator", "")
            for one, known in zip(fakes, origins, strict=True)
            for index, row in enumerate(known)
            if label in one.classes and one.hot()[index, one.classes.index(label)]
        )
        counts = {_REAL: sum(one.counts().get(label, 0) for one in reals)}
        counts |= {f"{_REAL}, {part}": own.get(label, 0) for part, own in held_out.items()}
        counts |= {_by(name): made_by[name] for name in names}
        rows.append(
            ClassPage(
                label=label,
                real=_images(reals, label, shown, _real_image),
                synthetic=_images(fakes, label, shown, partial(_synthetic_image, rows=rows_by_path)),
                counts=counts,
            )
        )
    makers = Counter(
        (row.get("generator", ""), row.get("weights_sha256", ""), row.get("strength", ""))
        for known in origins
        for row in known
    )
    folders = [*augmented] or [path for path in [data] if path is not None]
    return DataPage(
        name=(data or augmented[0]).resolve().name,
        classes=tuple(rows),
        columns=tuple(rows[0].counts) if rows else (),
        makers=tuple(
            Maker(name=name, weights_sha256=weights, strength=strength, images=count)
            for (name, weights, strength), count in sorted(makers.items())
        ),
        runs=tuple(run for folder in folders if (run := _run(folder)) is not None),
    )


def check_same_data(data: DataPage, tuning: TuningPage | None, evaluations: Sequence[EvaluationPage]) -> None:
    """Raise DataError for a tuning of other classes than the data's, or an evaluation of images by other weights."""
    own = {row.label for row in data.classes}
    if tuning is not None and tuning.classes and own != set(tuning.classes):
        raise DataError(
            f"the tuning is for the classes {', '.join(tuning.classes)}; {data.name} has "
            f"{', '.join(row.label for row in data.classes)}",
            "give the tuning of this data, or leave out --tuned",
        )
    made = {maker.weights_sha256 for maker in data.makers}
    for found in evaluations:
        if found.weights and not found.weights & made:
            raise DataError(
                f"the evaluation {found.folder} is of images by other weights than those of {data.name}",
                "give the evaluation of these images",
            )


def _by(name: str) -> str:
    return f"{_SYNTHETIC}, by {name or 'an unknown generator'}"


def _part(data: Dataset, *, synthetic: bool) -> Dataset:
    chosen = [index for index, name in enumerate(data.names) if (name in data.synthetic) == synthetic]
    return data.subset(chosen)


def _origins(data: Dataset) -> list[dict[str, str]]:
    """Return the row of metadata.csv of each image, {} where there is none."""
    known = read_metadata(data.path)
    return [known.get(name, {}) for name in data.names]


def _images(
    sets: Sequence[Dataset], label: str, most: int, picture: Callable[[Dataset, int, str, str], PageImage | None]
) -> tuple[PageImage, ...]:
    """Return up to `most` images of a class, evenly over the sets."""
    own = [
        (one, int(index))
        for one in sets
        if label in one.classes
        for index in np.flatnonzero(one.hot()[:, one.classes.index(label)])
    ]
    chosen = [own[place] for place in spread(len(own), most)]
    found = [
        picture(one, index, label, f"{number} of {len(chosen)} shown") for number, (one, index) in enumerate(chosen, 1)
    ]
    return tuple(image for image in found if image is not None)


def _real_image(data: Dataset, index: int, label: str, number: str) -> PageImage:
    # Pixels alone: the name and the metadata of a real image may identify a patient.
    return thumbnail(data.pixels(index), alt=f"Real {label}, {number}")


def _synthetic_image(
    data: Dataset, index: int, label: str, number: str, *, rows: Mapping[Path, Sequence[Mapping[str, str]]]
) -> PageImage | None:
    row, file = rows[data.path][index], data.file(index)
    if file is not None and row.get("sha256") and sha256_file(file) != row["sha256"]:
        logger.warning(f"{file} is not the image that metadata.csv names; left out")
        return None
    found = identify_files([file])[0] if file is not None else None
    mark = Mark(
        source_type=(found.source_type if found else "") or TRAINED,
        generator=row.get("generator", ""),
        weights_sha256=row.get("weights_sha256") or None,
        label=label,
    )
    by = f" by {row['generator']}" if row.get("generator") else ""
    return thumbnail(data.pixels(index), alt=f"Synthetic {label}{by}, {number}", mark=mark)


def _run(folder: Path) -> Run | None:
    """Read the run.json of an augmented folder, None if it has none. Raises: DataError if it is damaged."""
    record = read_run(folder) if folder.is_dir() else None
    if record is None:
        return None
    lineage = mapping(mapping(record.get("lineage")).get("models"))
    return Run(
        folder=folder.resolve().name,
        job=str(record.get("job", "")),
        medzoo=str(record.get("medzoo", "")),
        command=_command(record.get("command")),
        lineage={name: own for name, own in lineage.items() if isinstance(own, Mapping)},
        verdict=str(mapping(record.get("policy")).get("verdict", "")),
    )


def _command(words: Any) -> str:
    """Return a command of medzoo without the folders that absolute paths go through; "" if it was another program."""
    import shlex

    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        return ""
    program = Path(words[0])
    if program.stem != "medzoo" and program.parts[-2:] != ("medzoo", "__main__.py"):
        return ""
    shown = []
    for word in words[1:]:
        key, equals, value = word.rpartition("=")
        own = PureWindowsPath(value)
        hidden = value.startswith(("/", "~")) or own.is_absolute()
        shown.append(f"{key}{equals}{own.name}" if hidden else word)
    return shlex.join(["medzoo", *shown])


def find_tuning(given: Path | None, folders: Sequence[Path]) -> TuningPage | None:
    """Return the tuning in `given`, or the first finished one in the `folders` or right inside them.

    Raises: DataError if `given` holds none; IntegrityError.
    """
    if given is not None:
        return _tuning(load_tuning(given))
    for place in _places(folders):
        if (place / TUNING).is_file() and (read_tuning(place) or {}).get("verdict"):
            return _tuning(load_tuning(place))
    return None


def _tuning(result: TuningResult) -> TuningPage:
    return TuningPage(
        verdict=result.verdict,
        badge=text.badge(result),
        policy=tuple(text.describe_policy(result.policy)),
        classifier=result.classifier,
        generator=result.policy.generator,
        weights_sha256=result.policy.weights_sha256,
        augment=result.policy.augment,
        classes=tuple(result.policy.classes),
    )


def find_evaluations(given: Sequence[Path], folders: Sequence[Path]) -> list[EvaluationPage]:
    """Return the evaluations in `given`, and those in the `folders` or right inside them.

    Raises: DataError if one of `given` holds none; IntegrityError for a damaged file.
    """
    for place in given:
        if not (place / EVALUATION).is_file():
            raise DataError(
                f"{place} holds no evaluation: {EVALUATION} is missing", "give a folder that `evaluate --out` wrote"
            )
    places = [*given, *(place for place in _places(folders) if (place / EVALUATION).is_file())]
    return [_evaluation(place) for place in {place.resolve(): place for place in places}.values()]


def _evaluation(folder: Path) -> EvaluationPage:
    path = folder / EVALUATION
    try:
        content = read_json(path)
        rows = [
            MetricRow(
                name=str(row["name"]),
                unit=str(row["unit"]),
                better=str(row["better"]),
                n_real=int(row["score"]["n_real"]),
                n_fake=int(row["score"]["n_fake"]),
                value=float(row["score"]["value"]),
                failed=bool(row["score"].get("failed")),
                baseline=Baseline(**row["baseline"]) if row["baseline"] else None,
            )
            for row in content["results"]
            if row["score"] and row["score"]["value"] is not None
        ]
        trained = mapping(mapping(content.get("provenance")).get("lineage")).get("trained", [])
        weights = frozenset(str(one["weights_sha256"]) for one in trained if one["weights_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path} is damaged: {error}", "run the same `medzoo evaluate` command again") from None
    return EvaluationPage(folder=folder.resolve().name, rows=tuple(rows), weights=weights)


def _places(folders: Sequence[Path]) -> list[Path]:
    """Return the folders and those right inside them."""
    found = [folder for folder in folders if folder.is_dir()]
    return [*found, *(inner for folder in found for inner in sorted(folder.iterdir()) if inner.is_dir())]


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a value of a file of JSON, empty if it is no mapping."""
    return value if isinstance(value, Mapping) else {}
