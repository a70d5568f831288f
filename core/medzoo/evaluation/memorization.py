"""The record of a memorization check in a model's notes, and what a card says of a model that failed it.

    "copy_check": {"verdict": "failed", "metric": "nearest-train@pixels", "n_real": 125, "n_fake": 500, ...}

`verdict` is "passed" or "failed"; a model fails where its images are closer to the training images than held-out real
ones are. `metric` names the distance and its extractor, `n_real` the held-out and `n_fake` the synthetic images that
were compared. Other entries are the metric's own figures.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medzoo.errors import DataError
from medzoo.evaluation.results import Evaluation, MetricResult
from medzoo.hub.registry import CONFIG
from medzoo.runs.record import RUN
from medzoo.storage.files import read_json, write_json_atomic

logger = logging.getLogger(__name__)

METRIC = "nearest-train"
NOTE = "copy_check"
_HEADING = "## Memorization check"
_KINDS: Mapping[str, type] = {"verdict": str, "metric": str, "n_real": int, "n_fake": int}


@dataclass(frozen=True, kw_only=True)
class CopyCheck:
    """What a memorization check found."""

    failed: bool
    metric: str
    n_real: int
    n_fake: int

    @classmethod
    def of(cls, notes: Mapping[str, Mapping[str, Any]]) -> CopyCheck | None:
        """Return the memorization check in a run's or a model's notes, or None.

        Raises:
            DataError: there is one that cannot be understood.
        """
        stated = notes.get(NOTE)
        if stated is None:
            return None
        wrong = [key for key, kind in _KINDS.items() if type(stated.get(key)) is not kind]
        if wrong or stated["verdict"] not in ("passed", "failed"):
            raise DataError(
                f"the record of the memorization check has no usable {wrong[0] if wrong else 'verdict'}",
                "it states verdict (passed or failed), metric, n_real and n_fake",
            )
        failed = stated["verdict"] == "failed"
        return cls(failed=failed, metric=stated["metric"], n_real=stated["n_real"], n_fake=stated["n_fake"])


def with_warning(text: str, check: CopyCheck) -> str:
    """Return card text with a warning before its intended use if the model failed `check`, else unchanged."""
    if _HEADING in text.splitlines():
        return text
    section = f"""{_HEADING}

**This model failed its memorization check and was published all the same.** By `{check.metric}`, its images
({check.n_fake} compared) are closer to the training images than held-out real images ({check.n_real}) are: it repeats
training images, and its images are no more private than those.

"""
    before, heading, after = text.partition("## Intended use\n")
    return before + section + heading + after


def memorization_rows(evaluation: Evaluation) -> list[MetricResult]:
    """Return the rows of the memorization check."""
    return [row for row in evaluation.results if row.name.partition("@")[0] == METRIC]


def memorization_note(evaluation: Evaluation) -> dict[str, Any] | None:
    """Return the memorization check's result for the notes of a run, a failed one if any; None if it was not run."""
    scores = [(row.name, row.score) for row in memorization_rows(evaluation) if row.score is not None]
    if not scores:
        return None
    metric, score = min(scores, key=lambda found: not found[1].failed)
    details = {name.replace(" ", "_"): value for name, value in score.details.items() if math.isfinite(value)}
    verdict = "failed" if score.failed else "passed"
    counts = {"n_real": score.n_real, "n_fake": score.n_fake}
    return {"verdict": verdict, "metric": metric, **counts, "share": score.value, **details}


def save_memorization_note(run: Path, evaluation: Evaluation) -> None:
    """Save the memorization check's result, if there is one, in run.json and config.json of a finished training run.

    Raises: DataError, ResourceError.
    """
    note = memorization_note(evaluation)
    if note is None or not (run / RUN).is_file():
        return
    for name in (RUN, CONFIG):
        path = run / name
        try:
            values = read_json(path)
            values["notes"] = {**values.get("notes", {}), NOTE: note}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DataError(
                f"cannot save the result of the memorization check in {path}: {error}", "give a finished training run"
            ) from error
        write_json_atomic(path, values)
    logger.info(f"memorization check {note['verdict']}; recorded in {run / RUN} for the model card")
