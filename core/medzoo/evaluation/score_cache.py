"""Scores of metrics, cached by everything that they depend on."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medzoo._version import __version__
from medzoo.assets import LoadedExtractor
from medzoo.evaluation.image_sets import EvaluationSet
from medzoo.evaluation.metric_selection import SelectedMetric
from medzoo.evaluation.results import Baseline
from medzoo.plugins.lookup import Plugins
from medzoo.protocols import Curve, Histogram, Pair, Score
from medzoo.runs.record import library_versions, package_versions
from medzoo.storage.files import (
    optional_cache,
    read_json,
    with_checksum,
    without_checksum,
    write_json_atomic,
)
from medzoo.storage.paths import scores_root

logger = logging.getLogger(__name__)

_LIBRARIES = ("scipy", "scikit-learn", "torchmetrics", "torch-fidelity")
_OWN = ("evaluation", "toolkit")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One measurement of `metric`: on images of `label` ("" for all) of the sets in `images`, in this order.

    `what` distinguishes the ways of measuring the same sets, such as a pair of them.
    """

    metric: SelectedMetric
    extractor: LoadedExtractor | None
    images: Sequence[EvaluationSet]
    label: str
    seed: int
    what: str

    def path(self, plugins: Plugins) -> Path:
        """Return the cache path of its score, which depends on all that the score depends on.

        That is the pixels, labels and sources of all sets, the extractor with its weights and device, the seed, the
        versions of libraries, and the code of the metric and of medzoo. Waits for the last image to be decoded.
        """
        spec, extractor = self.metric.spec, self.extractor
        providers = [f"{info.key} {info.version}" for info in plugins.infos if f"metric {spec.name}" in info.provides]
        facts: list[object] = [self.what, self.metric.name, self.label, self.seed]
        facts += [providers, code_of(_package(spec.build)), *_versions()]
        facts += [extractor.identity, extractor.device.partition(":")[0]] if extractor else []
        for one in self.images:
            names = one.data.names if any(each.sources for each in self.images) else ()
            facts.append([one.role, one.images.digest, one.labels.tolist(), one.classes, one.sources, names])
        return scores_root() / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:40]}.json"


def read_score(path: Path) -> tuple[Score, Baseline | None] | None:
    """Return the cached score and its baseline, if it has one; None if there is none, or a damaged one (logged)."""
    try:
        values = json.loads(without_checksum(read_json(path), required=True)["score"])
        baseline = None if values["baseline"] is None else Baseline(**values["baseline"])
        return _to_score(values["score"]), baseline
    except OSError:  # most often, there is none
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        logger.warning(f"{path} is damaged: {error}; computing it again")
        return None


def write_score(path: Path, score: Score, baseline: Baseline | None) -> None:
    """Write a score and its baseline, if it consists of plain values, as far as the disk allows."""
    try:  # as text, for it may hold NaN
        text = json.dumps(
            {"score": asdict(score), "baseline": None if baseline is None else asdict(baseline)},
            default=lambda value: value.item(),
        )
    except (TypeError, ValueError, AttributeError):  # a foreign metric may give what is no number
        return
    with optional_cache():
        write_json_atomic(path, with_checksum({"score": text}))


def code_of(folder: Path | None) -> str:
    """Return a hash of the names, sizes and times of the Python files at `folder`, or of the one file that it is."""
    files: Iterable[Path] = [] if folder is None else [folder] if folder.is_file() else sorted(folder.rglob("*.py"))
    stats = [(file.relative_to(folder or file).as_posix(), file.stat()) for file in files]
    facts = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


@functools.cache
def _versions() -> tuple[str, ...]:
    """Return the versions of medzoo, with its code, and of the libraries that scores depend on."""
    found = {"medzoo": __version__, **library_versions(), **package_versions(_LIBRARIES)}
    own = Path(__file__).resolve().parents[1]
    return (*(f"{name} {value}" for name, value in found.items()), *(code_of(own / room) for room in _OWN))


def _package(build: object) -> Path | None:
    """Return the folder of the top package, or the file of the module, that `build` is defined in."""
    module = sys.modules.get(str(getattr(build, "__module__", "")).partition(".")[0])
    file = getattr(module, "__file__", None)
    if file is None:
        return None
    return Path(file).parent if hasattr(module, "__path__") else Path(file)


def _to_score(values: Mapping[str, Any]) -> Score:
    histogram, curve = values["histogram"], values["curve"]
    return Score(
        **{
            **values,
            "interval": _pair(values["interval"]),
            "warnings": tuple(values["warnings"]),
            "pairs": tuple(Pair(**each) for each in values["pairs"]),
            "histogram": None
            if histogram is None
            else Histogram(**{**histogram, "edges": tuple(histogram["edges"]), "shares": _lines(histogram["shares"])}),
            "curve": None
            if curve is None
            else Curve(
                **{
                    **curve,
                    "x": tuple(curve["x"]),
                    "lines": _lines(curve["lines"]),
                    "marked": _pair(curve["marked"]),
                }
            ),
        }
    )


def _lines(values: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(line) for name, line in values.items()}


def _pair(values: Sequence[float] | None) -> tuple[float, float] | None:
    return None if values is None else (values[0], values[1])
