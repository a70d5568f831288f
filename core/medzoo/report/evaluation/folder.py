"""The folder of an evaluation with its report and run.json, and the memorization check's result in a training run."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medzoo.errors import DataError
from medzoo.evaluation.evaluate import Measured
from medzoo.evaluation.memorization import NOTE
from medzoo.evaluation.results import Evaluation
from medzoo.generation.mixture import Source
from medzoo.hub.registry import CONFIG
from medzoo.report.evaluation.images import MeasuredImages
from medzoo.report.evaluation.report import write_report
from medzoo.report.evaluation.text import memorization_rows
from medzoo.runs.record import RUN, RunRecord, read_run
from medzoo.storage.files import make_folder, write_json_atomic

logger = logging.getLogger(__name__)

JOB = "evaluate"


def check_output_folder(out: Path) -> None:
    """Check that `out` is new, empty, or an earlier evaluation, which will be replaced.

    Raises:
        DataError: `out` is a file or holds other files.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file", "choose another --out")
    visible = [entry for entry in out.iterdir() if not entry.name.startswith(".")] if out.is_dir() else []
    if visible and (read_run(out) or {}).get("job") != JOB:
        raise DataError(f"{out} holds other files", "choose another --out, or empty it")


def write_evaluation(measured: Measured, out: Path, source: Source, record: RunRecord) -> Evaluation:
    """Write the report into `out`, then run.json, and return the evaluation with its provenance.

    Raises:
        DataError: as `check_output_folder`.
        ResourceError: `out` cannot be written to.
    """
    check_output_folder(out)
    make_folder(out)
    (out / RUN).unlink(missing_ok=True)
    evaluation = measured.evaluation
    metrics = dict.fromkeys(row.name.partition("@")[0] for row in evaluation.results)
    record.device = source.device
    record.seeds = {"seed": evaluation.seed}
    record.plugins = [source.plugins.plugin_of("metric", name) for name in metrics]
    record.data = {facts.role: {"path": facts.path, "counts": dict(facts.counts)} for facts in evaluation.sets}
    record.weights = {row.name: row.weights for row in evaluation.results if row.weights}
    record.scores = {
        row.name: {"value": _finite(row.score.value), "n_real": row.score.n_real, "n_fake": row.score.n_fake}
        for row in evaluation.results
        if row.score is not None
    }
    record.extra = dict(evaluation.provenance)
    evaluation = replace(evaluation, provenance=record.to_dict())
    images = MeasuredImages(measured.sets, evaluation.image.classes)
    record.add_outputs(write_report(evaluation, images, out))
    record.finish()
    return evaluation


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def memorization_note(evaluation: Evaluation) -> dict[str, Any] | None:
    """Return the memorization check's result for the notes of a run, a failed one if any; None if it was not run."""
    rows = [row for row in memorization_rows(evaluation) if row.score is not None]
    if not rows:
        return None
    row = min(rows, key=lambda row: row.score is None or not row.score.failed)
    score = row.score
    assert score is not None
    details = {name.replace(" ", "_"): value for name, value in score.details.items() if np.isfinite(value)}
    verdict = "failed" if score.failed else "passed"
    counts = {"n_real": score.n_real, "n_fake": score.n_fake}
    return {"verdict": verdict, "metric": row.name, **counts, "share": score.value, **details}


def note_memorization(run: Path, evaluation: Evaluation) -> None:
    """Save the memorization check's result, if there is one, in the finished training run `run`, for its card.

    Raises: as `save_memorization_note`.
    """
    note = memorization_note(evaluation)
    if note is not None and (run / RUN).is_file():
        save_memorization_note(run, note)
        logger.info(f"memorization check {note['verdict']}; recorded in {run / RUN} for the model card")


def save_memorization_note(run: Path, note: Mapping[str, Any]) -> None:
    """Save the note in run.json and config.json of a training run. Raises: DataError, ResourceError."""
    for name in (RUN, CONFIG):
        path = run / name
        try:
            values = json.loads(path.read_text("utf-8"))
            values["notes"] = {**values.get("notes", {}), NOTE: dict(note)}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"cannot save the result of the memorization check in {path}: {error}", "give a finished training run"
            ) from error
        write_json_atomic(path, values)
