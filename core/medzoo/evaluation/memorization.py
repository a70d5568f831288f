"""The record of a memorization check in a model's notes, and what a card says of a model that failed it.

    "copy_check": {"verdict": "failed", "metric": "nearest-train@pixels", "n_real": 125, "n_fake": 500, ...}

`verdict` is "passed" or "failed"; a model fails where its images are closer to the training images than held-out real
ones are. `metric` names the distance and its extractor, `n_real` the held-out and `n_fake` the synthetic images that
were compared. Other entries are the metric's own figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medzoo.errors import DataError

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
