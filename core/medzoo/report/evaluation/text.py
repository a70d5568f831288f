"""The text of an evaluation's report: its summary, warnings, and what the numbers show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medzoo.evaluation.memorization import METRIC, memorization_rows
from medzoo.evaluation.results import FAKE, REAL, TRAIN, Baseline, Evaluation, MetricResult, SkippedMetric
from medzoo.report.evaluation.tables import group_by_value
from medzoo.report.formatting import format_number, join_words, pluralize


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of the memorization check, "passed", "failed" or "not run", and a sentence that explains it."""

    state: str
    sentence: str


def describe_format(evaluation: Evaluation) -> str:
    """Describe the format in which all images were compared: "64 x 64 pixels, grayscale, no crop"."""
    image = evaluation.image
    color = "grayscale" if image.channels == 1 else "RGB"
    crop = "no crop" if evaluation.crop == "none" else f"{evaluation.crop} crop"
    return f"{image.size} \u00d7 {image.size} pixels, {color}, {crop}"


def summarize(evaluation: Evaluation) -> str:
    """Summarize in two sentences what was compared with what."""
    sizes = {facts.role: facts.size for facts in evaluation.sets}
    real, fake = pluralize(sizes.get(REAL, 0), "real image"), pluralize(sizes.get(FAKE, 0), "synthetic image")
    were = "was" if sizes.get(FAKE) == 1 else "were"
    classes = pluralize(len(evaluation.image.classes), "class", "classes")
    text = f"{fake} {were} compared with {real} in {classes}, all at {describe_format(evaluation)}."
    if TRAIN in sizes:
        text += f" The memorization check searched {pluralize(sizes[TRAIN], 'training image')}."
    return text


def memorization_verdict(evaluation: Evaluation) -> Verdict:
    """Judge whether synthetic images are closer to training images than held-out real images are."""
    rows = memorization_rows(evaluation)
    measured = [(row.name, row.score) for row in rows if row.score]
    if not measured:
        skipped = [entry.reason for entry in evaluation.skipped if entry.name.partition("@")[0] == METRIC]
        not_requested = "no training images were given" if evaluation.summary(TRAIN) is None else "it was not requested"
        reason = next(iter([row.missing for row in rows if row.missing] + skipped), not_requested)
        return Verdict(state="not run", sentence=f"Whether training images were memorized is unknown: {reason}.")
    failed = [name for name, score in measured if score.failed]
    names = join_words(failed or [name for name, _ in measured])
    closer = "closer" if failed else "no closer"
    sentence = f"By {names}, synthetic images are {closer} to training images than held-out real images are."
    return Verdict(state="failed" if failed else "passed", sentence=sentence)


def group_warnings(evaluation: Evaluation) -> dict[str, list[str]]:
    """Map every warning to the metrics it concerns; warnings of the whole evaluation come first and concern none."""
    by_text: dict[str, list[str]] = {text: [] for text in evaluation.warnings}
    for row in (*evaluation.results, *evaluation.per_class):
        for text in row.warnings:
            by_text.setdefault(text, []).append(f"{row.name} ({row.label})" if row.label else row.name)
    return {text: list(dict.fromkeys(names)) for text, names in by_text.items()}


def compare_with_baselines(evaluation: Evaluation) -> list[tuple[MetricResult, str]]:
    """Say how each metric that has a real-vs-real baseline compares with it."""
    return [(row, _compare(row.baseline, row.better)) for row in evaluation.results if row.baseline]


def _compare(found: Baseline, better: str) -> str:
    """Compare two means; a difference counts from two standard deviations over the draws, of both together."""
    gap = found.real - found.fake if better == "higher" else found.fake - found.real
    noise = 2 * math.hypot(found.real_spread, found.fake_spread)
    if math.isnan(gap) or math.isnan(noise):
        return "cannot be compared"
    if abs(gap) <= noise:
        return "not distinguishable from real images"
    if better == "neither":
        return "different from real images"
    if gap > 0:
        return "worse than real images"
    return "better than real images: check for memorization and low diversity"


def describe_best_checkpoints(evaluation: Evaluation) -> list[str]:
    """Describe the best checkpoint by each metric that has a better direction."""
    better = {row.name.partition("@")[0]: row.better for row in evaluation.results}
    better |= {row.name: row.better for row in evaluation.results}
    sentences = []
    for name in dict.fromkeys(point.name for point in evaluation.trend):
        direction = better.get(name, better.get(name.partition("@")[0], "neither"))
        points = sorted((point for point in evaluation.trend if point.name == name), key=lambda point: point.step)
        points = [point for point in points if not math.isnan(point.score.value)]
        if direction != "neither" and len(points) > 1:
            sign = -1 if direction == "lower" else 1
            best = max(points, key=lambda point: sign * point.score.value)
            last = best is points[-1]
            after = "it is the last one, so longer training may help" if last else "later checkpoints are no better"
            sizes = f"{format_number(best.score.n_real)} real and {format_number(best.score.n_fake)} synthetic images"
            sentences.append(
                f"By {name}, the best of {len(points)} checkpoints is epoch {format_number(best.epoch)} "
                f"(step {format_number(best.step)}), with {format_number(best.score.value)} ({sizes}); {after}."
            )
    return sentences


def group_skipped(evaluation: Evaluation) -> list[tuple[tuple[str, ...], SkippedMetric]]:
    """Group skipped metrics that have the same reason and hint: their names, and one of them."""
    groups: dict[tuple[str, str], list[SkippedMetric]] = {}
    for entry in evaluation.skipped:
        groups.setdefault((entry.reason, entry.hint), []).append(entry)
    return [(tuple(entry.name for entry in entries), entries[0]) for entries in groups.values()]


def preprocessing_by_metric(evaluation: Evaluation) -> dict[str, str]:
    """Return the preprocessing of each metric's images, for tables that state it once for many numbers."""
    rows: Iterable[MetricResult] = (*evaluation.per_class, *evaluation.results)
    return {row.name: row.preprocessing or describe_format(evaluation) for row in rows}


def describe_preprocessing(evaluation: Evaluation, names: Sequence[str]) -> str:
    """Describe the preprocessing of these metrics' images, metrics with the same one together."""
    by_metric = preprocessing_by_metric(evaluation)
    groups = group_by_value({name: by_metric[name] for name in names})
    return "; ".join(f"{join_words(together)}: {text}" for text, together in groups.items())
