"""Results of an experiment, read from its folder: scores of each cell, their means, comparisons with the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from medzoo.classification.scores import ClassificationScores, ClassScore
from medzoo.errors import DataError, IntegrityError
from medzoo.experiment.config import METRICS, Arm, metric_words
from medzoo.experiment.statistics import (
    Comparison,
    Estimate,
    adjust_family,
    estimate,
    mcnemar_test,
    paired_test,
)
from medzoo.storage.files import plain, read_json, sha256_file, with_checksum, without_checksum, write_json_atomic

if TYPE_CHECKING:
    import pandas as pd

EXPERIMENT, RESULT, PREDICTIONS, TRACEBACK = "experiment.json", "result.json", "predictions.csv", "traceback.txt"

Status = Literal["done", "failed", "missing"]


def predictions_file(test_set: str) -> str:
    """Return the name of a cell's file of predictions for an external test set; "" is the experiment's own."""
    return PREDICTIONS if not test_set else f"predictions-{test_set}.csv"


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """One classifier trained on one arm, in one fold of one repeat (0 and 0 if held out), from one seed.

    "failed" has its `error` in one line and traceback.txt in its folder; "missing" was not run yet. `scores` are of the
    test images, and None unless the cell is "done".
    `history`: a mapping per recorded step, with "step", "loss", and at some steps "validation_loss" and
    "balanced_accuracy" (of validation images). If pretrained, "phase" is 1 for synthetic and 2 for real images.
    `images`: images of each class by origin: "real", or the generator's name. Images with several labels count for
    each. `steps` optimizer steps were planned (equal for all arms), `steps_done` made: fewer if it stopped early.
    `predictions_sha256` is the SHA-256 of predictions.csv, "" where an earlier version wrote it. `external` and
    `external_sha256` are the same of the external test sets, by name.
    """

    key: str
    arm: str
    classifier: str
    fold: int
    repeat: int
    seed: int
    status: Status
    scores: ClassificationScores | None = None
    error: str = ""
    history: tuple[Mapping[str, float], ...] = ()
    images: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    n_train: int = 0
    n_real: int = 0
    n_val: int = 0
    n_test: int = 0
    steps: int = 0
    steps_done: int = 0
    seconds: float = 0.0
    notes: Mapping[str, Mapping[str, float | str]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    predictions_sha256: str = ""
    external: Mapping[str, ClassificationScores] = field(default_factory=dict)
    external_sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_synthetic(self) -> int:
        """Synthetic images it was trained on."""
        return self.n_train - self.n_real

    def value(self, metric: str) -> float | None:
        """Return a score by its name in METRICS; None unless the cell is done, NaN if undefined."""
        return None if self.scores is None else float(getattr(self.scores, metric))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; undefined ones are null."""
        values: dict[str, Any] = plain(self)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CellResult:
        """Restore what `to_dict` returned. Raises: IntegrityError for other values."""
        try:
            scores = None if values["scores"] is None else _restore_scores(values["scores"])
            history, warnings = tuple(values["history"]), tuple(values["warnings"])
            external = {name: _restore_scores(own) for name, own in values.get("external", {}).items()}
            restored = {"scores": scores, "history": history, "warnings": warnings, "external": external}
            return cls(**{**values, **restored})
        except (KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"a cell's result cannot be read: {error}", "delete the cell's folder") from None


def _restore_scores(values: Mapping[str, Any]) -> ClassificationScores:
    def restore(own: Mapping[str, Any]) -> dict[str, Any]:
        """Undo what JSON does to NaN and tuples."""
        names = {name: tuple(value) for name, value in own.items() if isinstance(value, list)}
        return {name: math.nan if value is None else value for name, value in own.items()} | names

    classes = tuple(ClassScore(**restore(score)) for score in values["per_class"])
    confusion = tuple(map(tuple, values["confusion"]))
    return ClassificationScores(**{**restore(values), "per_class": classes, "confusion": confusion})


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """An arm with one classifier over all folds, or seeds: an estimate for each of METRICS.

    An estimate leaves out, and counts, the folds or seeds with a cell without scores; `failed` and `missing` are the
    numbers of such cells.
    """

    arm: str
    classifier: str
    estimates: Mapping[str, Estimate]
    failed: int = 0
    missing: int = 0

    @property
    def incomplete(self) -> str:
        """What has no score, such as "2 cells failed, 1 not run"; "" where every cell has one."""
        cells = "1 cell" if (self.failed or self.missing) == 1 else f"{self.failed or self.missing} cells"
        if not self.failed:
            return f"{cells} not run" if self.missing else ""
        return f"{cells} failed" + (f", {self.missing} not run" if self.missing else "")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """All of an experiment in `folder`.

    `held_out`: tested on one fixed test set, not in folds. `settings` are its flat settings and `origins` where each
    came from; `provenance` says which medzoo, machine, device and data (path, fingerprint, classes, counts, parts).
    `arms`, `classifiers` and `cells` are in the order to show them. `metric` is the one of METRICS in which arms are
    compared with `baseline`. `warnings` are sentences that a reader must see. `test_sets` are the names of external
    test sets; `test_set` is the one that scores are of, "" for the experiment's own (`on`).
    """

    folder: Path
    name: str
    held_out: bool
    settings: Mapping[str, Any]
    origins: Mapping[str, str]
    provenance: Mapping[str, Any]
    classes: tuple[str, ...]
    multi_label: bool
    baseline: str
    metric: str
    arms: tuple[Arm, ...]
    classifiers: tuple[str, ...]
    cells: tuple[CellResult, ...]
    warnings: tuple[str, ...] = ()
    test_sets: tuple[str, ...] = ()
    test_set: str = ""

    def on(self, test_set: str) -> Experiment:
        """Return the experiment with scores and predictions of an external test set."""
        cells = [
            replace(
                cell,
                scores=cell.external.get(test_set),
                predictions_sha256=cell.external_sha256.get(test_set, ""),
                n_test=cell.external[test_set].n if test_set in cell.external else 0,
            )
            for cell in self.cells
        ]
        return replace(self, cells=tuple(cells), test_set=test_set)

    @property
    def failed(self) -> tuple[CellResult, ...]:
        """The cells that failed."""
        return tuple(cell for cell in self.cells if cell.status == "failed")

    @property
    def missing(self) -> tuple[CellResult, ...]:
        """The cells that have not been run yet."""
        return tuple(cell for cell in self.cells if cell.status == "missing")

    @property
    def overlap(self) -> float:
        """Test images per training image, on average; 0 on one fixed test set, where scores are repeated over seeds."""
        if self.held_out:
            return 0.0
        parts = self.provenance["data"]["parts"]
        train, test = (math.fsum(part[name] for part in parts) / len(parts) for name in ("train", "test"))
        return test / train

    @cached_property
    def summaries(self) -> tuple[ArmSummary, ...]:
        """The means of each arm with each classifier."""
        return tuple(
            ArmSummary(
                arm=arm.name,
                classifier=classifier,
                estimates={
                    metric: estimate(self.values(arm.name, classifier, metric), overlap=self.overlap)
                    for metric in METRICS
                },
                failed=sum(cell.status == "failed" for cell in self.of(arm.name, classifier)),
                missing=sum(cell.status == "missing" for cell in self.of(arm.name, classifier)),
            )
            for arm in self.arms
            for classifier in self.classifiers
        )

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Each arm against the baseline with each classifier, adjusted together by Holm's correction."""
        return adjust_family(
            [
                self.compare(arm.name, self.baseline, classifier)
                for classifier in self.classifiers
                for arm in self.arms
                if arm.name != self.baseline
            ]
        )

    @cached_property
    def image_tests(self) -> tuple[Comparison, ...]:
        """McNemar's tests of each arm against the baseline, seed by seed, adjusted together by Holm's correction.

        There are none unless there is one test set and an image has one label.
        Raises: IntegrityError for unreadable predictions.
        """
        if not self.held_out or self.multi_label:
            return ()
        tables = {cell.key: self.read_predictions(cell) for cell in self.cells if cell.scores is not None}
        right = {key: (table["label"] == table["predicted"]).to_numpy(bool) for key, table in tables.items()}
        base = {(cell.classifier, cell.seed): cell for cell in self.cells if cell.arm == self.baseline}
        order = {classifier: place for place, classifier in enumerate(self.classifiers)}
        cells = sorted((cell for cell in self.cells if cell.arm != self.baseline), key=lambda c: order[c.classifier])
        pairs = [(cell, base[cell.classifier, cell.seed]) for cell in cells]
        return adjust_family(
            [
                Comparison(
                    arm=cell.arm,
                    baseline=self.baseline,
                    classifier=cell.classifier,
                    metric="accuracy",
                    seed=cell.seed,
                    test=mcnemar_test(right[cell.key], right[other.key]),
                )
                for cell, other in pairs
                if cell.key in right and other.key in right
            ]
        )

    def arm(self, name: str) -> Arm:
        """Return the arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def of(self, arm: str, classifier: str) -> tuple[CellResult, ...]:
        """Return the cells of an arm with a classifier: all repeats, folds and seeds."""
        return tuple(cell for cell in self.cells if (cell.arm, cell.classifier) == (arm, classifier))

    def values(self, arm: str, classifier: str, metric: str = "") -> list[float | None]:
        """Return one value of `metric`, or of the experiment's own, per fold: the mean of its seeds; or per seed.

        A value is None if one of its cells has no scores.
        """
        return self._by_unit(arm, classifier, lambda cell: cell.value(metric or self.metric))

    def class_values(self, arm: str, classifier: str, name: str, score: str) -> list[float | None]:
        """Return one value of a class's `score` ("recall", "auc") per fold or seed, as `values`; NaN if undefined."""
        place = self.classes.index(name)

        def value(cell: CellResult) -> float | None:
            return None if cell.scores is None else float(getattr(cell.scores.per_class[place], score))

        return self._by_unit(arm, classifier, value)

    def _by_unit(self, arm: str, classifier: str, value: Callable[[CellResult], float | None]) -> list[float | None]:
        groups: dict[tuple[int, int], list[float | None]] = {}
        for cell in self.of(arm, classifier):
            unit = (0, cell.seed) if self.held_out else (cell.repeat, cell.fold)
            groups.setdefault(unit, []).append(value(cell))
        found = [group for _, group in sorted(groups.items())]
        return [None if None in group else fmean(value for value in group if value is not None) for group in found]

    def summary(self, arm: str, classifier: str) -> ArmSummary:
        """Return the means of an arm with a classifier."""
        return next(found for found in self.summaries if (found.arm, found.classifier) == (arm, classifier))

    def compare(self, arm: str, baseline: str, classifier: str) -> Comparison:
        """Compare two arms with a classifier in the experiment's metric, by a paired t-test over folds or seeds."""
        return Comparison(
            arm=arm,
            baseline=baseline,
            classifier=classifier,
            metric=metric_words(self.metric),
            test=paired_test(self.values(arm, classifier), self.values(baseline, classifier), overlap=self.overlap),
        )

    def predictions(self, cell: CellResult) -> Path:
        """Return the cell's CSV of test images: file, label, predicted, and a probability p_CLASS per class."""
        return self.folder / "cells" / cell.key / predictions_file(self.test_set)

    def read_predictions(self, cell: CellResult) -> pd.DataFrame:
        """Read `predictions`: texts, and probabilities as float64. Raises: IntegrityError for an unreadable file."""
        import pandas as pd

        path = self.predictions(cell)
        hint = "run the experiment again"
        if not _is_intact(path, cell.predictions_sha256):
            raise IntegrityError(f"{path} is missing or damaged", hint)
        try:
            # Classes may be called "NA" or "1".
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
            kept = table[["label", "predicted", *(f"p_{name}" for name in self.classes)]]
            return kept.astype({f"p_{name}": float for name in self.classes})
        except (OSError, KeyError, ValueError) as error:
            raise IntegrityError(f"{path} cannot be read: {error}", f"delete {path.parent} and {hint}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; undefined ones are null. Histories stay in the cells' own files."""
        values: dict[str, Any] = plain({entry.name: getattr(self, entry.name) for entry in fields(self)})
        for cell in values["cells"]:
            del cell["history"]
        del values["folder"], values["test_set"]
        others = {} if self.test_set else {name: self.on(name)._findings() for name in self.test_sets}
        return {**values, **self._findings(), "external": others}

    def _findings(self) -> dict[str, Any]:
        """Return plain values of what is computed from the cells."""
        return {
            "summaries": plain(self.summaries),
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "image_tests": [comparison.to_dict() for comparison in self.image_tests],
        }


def load_results(folder: Path) -> Experiment:
    """Load the results of the experiment in `folder`, finished or not.

    Raises:
        DataError: the folder holds no experiment.
        IntegrityError: a file is damaged.
    """
    stored = _read_json(folder / EXPERIMENT)
    if stored is None:
        raise DataError(f"{folder} holds no experiment", "run one with `medzoo experiment run`")
    cells = tuple(_cell(folder, entry) for entry in stored["cells"])
    same = ("name", "settings", "origins", "provenance", "multi_label", "baseline", "metric")
    return Experiment(
        folder=folder,
        **{name: stored[name] for name in same},
        held_out=stored["held_out"] if "held_out" in stored else stored["scheme"] == "held-out",
        classes=tuple(stored["classes"]),
        arms=tuple(Arm.from_dict(arm) for arm in stored["arms"]),
        classifiers=tuple(stored["classifiers"]),
        cells=cells,
        warnings=(*stored["warnings"], *_warnings(cells)),
        test_sets=tuple(stored.get("test_sets", ())),
    )


def write_cell(folder: Path, result: CellResult) -> None:
    """Write the result of a cell, with a checksum. Raises: ResourceError."""
    write_json_atomic(folder / "cells" / result.key / RESULT, with_checksum(result.to_dict()))


def check_cell(folder: Path, key: str) -> tuple[bool, str]:
    """Return whether a cell is done and its files are intact, and which of them is damaged, in words, or ""."""
    try:
        result = read_cell(folder, key)
    except IntegrityError as error:
        return False, error.message
    if result is None or result.status != "done":
        return False, ""
    for name, digest in {"": result.predictions_sha256, **result.external_sha256}.items():
        if not _is_intact(path := folder / "cells" / key / predictions_file(name), digest):
            return False, f"{path} is missing or damaged"
    return True, ""


def _is_intact(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256 in ("", sha256_file(path))


def read_cell(folder: Path, key: str) -> CellResult | None:
    """Read the result of a cell, None if there is none. Raises: IntegrityError for a damaged file."""
    path = folder / "cells" / key / RESULT
    values = _read_json(path)
    try:
        return None if values is None else CellResult.from_dict(without_checksum(values))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise IntegrityError(f"{path} is damaged: {error}", "run the experiment again") from None


def _cell(folder: Path, entry: Mapping[str, Any]) -> CellResult:
    """Read a cell under the names of this experiment: another arm or design may have computed it."""
    names = {name: entry[name] for name in ("arm", "classifier", "fold", "repeat", "seed")}
    missing = CellResult(key=entry["key"], status="missing", steps=entry["steps"], **names)
    return replace(read_cell(folder, entry["key"]) or missing, **names)


def _read_json(path: Path) -> Any:
    try:
        return read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged: {error}", "run the experiment again") from None


def _warnings(cells: Sequence[CellResult]) -> list[str]:
    """Return warnings about cells without scores, and those of classifiers."""
    found = []
    for status, what in (("failed", "failed"), ("missing", "have not been run yet")):
        lost = [cell for cell in cells if cell.status == status]
        if lost:
            arms = ", ".join(dict.fromkeys(cell.arm for cell in lost))
            found.append(f"{len(lost)} of {len(cells)} cells {what} ({arms}): means without them are partial")
    return [*found, *dict.fromkeys(line for cell in cells for line in cell.warnings)]
