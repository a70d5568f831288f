"""The folder of an evaluation: the report, its tables and pictures, run.json; and the copy check's note in the run."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medzoo.errors import DataError
from medzoo.evaluation.evaluate import Measured
from medzoo.evaluation.measurement import MeasuredSet
from medzoo.evaluation.memorization import NOTE
from medzoo.evaluation.results import Evaluation
from medzoo.generation.mixture import Source
from medzoo.hub.registry import CONFIG
from medzoo.report.evaluation.report import write_report
from medzoo.runs.record import RUN, RunRecord, read_run
from medzoo.storage.files import make_folder, write_json_atomic

logger = logging.getLogger(__name__)

JOB = "evaluate"
COPY_CHECK = "nearest-train"


class SetPictures:
    """The images of the measured sets, as a report shows them (`report.evaluation.Pictures`)."""

    def __init__(self, sets: Mapping[str, MeasuredSet], classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._sets = sets

    def images(self, role: str, indices: Sequence[int]) -> np.ndarray:
        """uint8 (n, C, H, W), as they were compared."""
        return self._sets[role].images[indices]

    def indices(self, role: str, label: str | None, count: int) -> Sequence[int]:
        """At most `count` images of a class, or of all, evenly over the set; none where there is no such set."""
        if role not in self._sets:
            return []
        own = self._sets[role]
        if label is not None and label not in own.classes:
            return []
        places = np.arange(len(own.data)) if label is None else own.of_class(label)
        spread = {int(place) for place in np.linspace(0, len(places) - 1, min(count, len(places)))}
        return [int(places[place]) for place in sorted(spread)]

    def name(self, role: str, index: int) -> str:
        """The image's file name in its set."""
        return self._sets[role].data.names[index]


def refuse_other_folder(out: Path) -> None:
    """Nothing, if `out` is empty, not there, or another evaluation's, which the new one replaces. Raises: DataError."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file", "choose another --out")
    visible = [entry for entry in out.iterdir() if not entry.name.startswith(".")] if out.is_dir() else []
    if visible and (read_run(out) or {}).get("job") != JOB:
        raise DataError(f"{out} holds other files", "choose another --out, or empty it")


def write_evaluation(measured: Measured, out: Path, source: Source, record: RunRecord) -> Evaluation:
    """The evaluation with its provenance; `out` then holds its report, and at last run.json.

    Raises: as `refuse_other_folder`; ResourceError.
    """
    refuse_other_folder(out)
    make_folder(out)
    (out / RUN).unlink(missing_ok=True)
    evaluation = measured.evaluation
    record.device = source.device
    record.seeds = {"seed": evaluation.seed}
    record.plugins = [source.plugins.plugin_of("metric", name) for name in _metrics(evaluation)]
    record.data = {facts.role: {"path": facts.path, "counts": dict(facts.counts)} for facts in evaluation.sets}
    record.weights = {row.name: row.weights for row in evaluation.results if row.weights}
    record.scores = {
        row.name: {"value": _finite(row.score.value), "n_real": row.score.n_real, "n_fake": row.score.n_fake}
        for row in evaluation.results
        if row.score is not None
    }
    record.extra = dict(evaluation.provenance)
    evaluation = replace(evaluation, provenance=record.to_dict())
    pictures = SetPictures(measured.sets, evaluation.image.classes)
    record.add_outputs(write_report(evaluation, pictures, out))
    record.finish()
    return evaluation


def _metrics(evaluation: Evaluation) -> list[str]:
    return list(dict.fromkeys(row.name.partition("@")[0] for row in evaluation.results))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def copy_note(evaluation: Evaluation) -> dict[str, Any] | None:
    """The copy check's result as a run's notes keep it, one that failed where there are several; None without any."""
    rows = [row for row in evaluation.results if row.name.partition("@")[0] == COPY_CHECK and row.score is not None]
    if not rows:
        return None
    row = min(rows, key=lambda row: row.score is None or not row.score.failed)
    score = row.score
    assert score is not None
    figures = {name.replace(" ", "_"): value for name, value in score.details.items() if np.isfinite(value)}
    verdict = "failed" if score.failed else "passed"
    counts = {"n_real": score.n_real, "n_fake": score.n_fake}
    return {"verdict": verdict, "metric": row.name, **counts, "share": score.value, **figures}


def note_memorization(run: Path, evaluation: Evaluation) -> None:
    """Write the memorization check's result, if there is one, into the finished training run `run`, for its card.

    Raises: as `note_copy_check`.
    """
    note = copy_note(evaluation)
    if note is not None and (run / RUN).is_file():
        note_copy_check(run, note)
        logger.info(f"memorization check {note['verdict']}; {run / RUN} keeps it for the model's card")


def note_copy_check(run: Path, note: Mapping[str, Any]) -> None:
    """Nothing; run.json and config.json of a training run then hold the note. Raises: DataError, ResourceError."""
    for name in (RUN, CONFIG):
        path = run / name
        try:
            stated = json.loads(path.read_text("utf-8"))
            stated["notes"] = {**stated.get("notes", {}), NOTE: dict(note)}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DataError(f"cannot note the copy check in {path}: {error}", "give a finished training run") from error
        write_json_atomic(path, stated)
