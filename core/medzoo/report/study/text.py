"""What the report of a reading study says in words."""

from __future__ import annotations

import math
from collections.abc import Iterator

from medzoo.report.formatting import format_score, join_words, pluralize
from medzoo.study.key import CLASS, ORIGIN, QUALITY
from medzoo.study.score import (
    ACCURACY,
    AUC,
    CLASS_DIFFERENCE,
    CLASS_REAL,
    CLASS_SYNTHETIC,
    D_PRIME,
    QUALITY_DIFFERENCE,
    QUALITY_REAL,
    QUALITY_SYNTHETIC,
    SENSITIVITY,
    SPECIFICITY,
    StudyScores,
)
from medzoo.study.statistics import CROSSED, Equivalence, Estimate

LABELS = {
    AUC: "ROC area",
    ACCURACY: "Accuracy",
    SENSITIVITY: "Synthetic found",
    SPECIFICITY: "Real recognized",
    D_PRIME: "d\u2032",
    CLASS_REAL: "Class right, real images",
    CLASS_SYNTHETIC: "Class right, synthetic images",
    CLASS_DIFFERENCE: "Class right, synthetic minus real",
    QUALITY_REAL: "Quality of real images",
    QUALITY_SYNTHETIC: "Quality of synthetic images",
    QUALITY_DIFFERENCE: "Quality, synthetic minus real",
}
"""The measures of a study in the words of its report."""
TASK_LABELS = {ORIGIN: "real or synthetic", CLASS: "class", QUALITY: "quality"}


def interval(found: Estimate) -> str:
    """Return "0.612 (0.540 to 0.684)", or the value alone where it has no interval."""
    if math.isnan(found.value):
        return f"not defined ({found.reason})" if found.reason else "not defined"
    value = format_score(found.value)
    return value if math.isnan(found.low) else f"{value} ({format_score(found.low)} to {format_score(found.high)})"


def p_value(p: float) -> str:
    """Return "p = 0.012", "p < 0.001", or "" where it is undefined."""
    return "" if math.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def verdict(scores: StudyScores) -> str:
    """Return one sentence on whether readers tell synthetic from real images; "" where they were not asked."""
    if scores.main not in scores.pooled:
        return ""
    found, test = scores.pooled[scores.main], scores.equivalences[scores.main]
    who = pluralize(len(scores.readers), "reader")
    name = "a share of right choices of" if scores.study.pairs else "an ROC area of"
    measured = f"{name} {interval(found)}, 0.5 being chance"
    if math.isnan(scores.p):
        return f"{who} had {measured}: {found.reason}, so nothing is concluded."
    if scores.p < 0.05:
        if found.value < 0.5:
            return (
                f"{who} told the sets apart, but called the real images synthetic: {measured} ({p_value(scores.p)}). "
                "They saw a difference and took it the wrong way round."
            )
        also = f", though by less than the margin of {test.margin:g}" if test.shown else ""
        tells = "tells" if len(scores.readers) == 1 else "tell"
        return f"{who} {tells} synthetic from real images{also}: {measured} ({p_value(scores.p)})."
    if test.shown:
        return (
            f"{who} did not tell synthetic from real images, and equivalence with chance is shown within "
            f"{test.margin:g}: {measured} (two one-sided tests, {p_value(test.p)})."
        )
    how = test.reason or f"two one-sided tests, {p_value(test.p)}"
    return (
        f"{who} had {measured} ({p_value(scores.p)}). No difference from chance is shown, and neither "
        f"is equivalence within {test.margin:g} ({how}): more readers or images are needed."
    )


def badge(scores: StudyScores) -> tuple[str, str]:
    """Return the word that stands before the verdict, and the class of its color."""
    if scores.main not in scores.pooled:
        return "Scored", "open"
    if scores.p < 0.05:
        return "Told apart", "bad"
    return ("Not told apart", "good") if scores.equivalences[scores.main].shown else ("Undecided", "open")


def equivalence_sentence(scores: StudyScores, name: str, test: Equivalence) -> str:
    """Return a sentence on an equivalence test."""
    label = LABELS[name]
    about = f"within {test.margin:g} of {test.center:g}"
    if test.reason:
        return f"{label}: not tested, as {test.reason}."
    bounds = f"90% interval {format_score(test.low)} to {format_score(test.high)}, {p_value(test.p)}"
    return f"{label}: equivalence {about} is {'shown' if test.shown else 'not shown'} ({bounds})."


def cautions(scores: StudyScores) -> Iterator[str]:
    """Yield what limits the conclusions."""
    count = len(scores.readers)
    if count == 1:
        yield "One reader: the results are about this reader and say nothing about others"
    elif count < 4:
        freedom = pluralize(count - 1, "degree")
        yield f"Intervals over {count} readers rest on {freedom} of freedom, and are wide"
    if not any(trial.repeat_of for trial in scores.study.trials):
        yield "Nothing was shown twice, so the agreement of readers with themselves is unknown"
    for found in scores.study.warnings:
        yield found[:1].upper() + found[1:]
    yield "Images count as independent; several of one patient, or near-duplicates, make intervals too narrow"
    if ORIGIN in scores.study.tasks and not scores.study.pairs:
        yield "Readers were told that half of the images are synthetic, which guards against bias, not against cues"


def methods(scores: StudyScores) -> list[str]:
    """Return how things were computed, with sources."""
    found = []
    if scores.main == AUC and AUC in scores.pooled:
        found.append(
            "ROC areas are empirical, over the six levels of confidence, with the variance of DeLong et al. (1988)."
        )
    if scores.study.pairs:
        found.append(
            "Each choice counts as right or wrong; the share of right choices estimates the ROC area (Green & Swets "
            "1966)."
        )
    if len(scores.readers) > 1:
        found.append(
            f"Means over readers: {CROSSED}. The interval is a t interval with the variance of a single modality."
        )
    if ACCURACY in scores.pooled:
        found.append(
            "Accuracy of one reader: exact binomial interval (Clopper & Pearson 1934) and exact test against 0.5."
        )
        found.append(
            "d\u2032 with the error of Gourevitch & Galanter (1967); rates of 0 and 1 corrected as by Hautus (1995)."
        )
    if CLASS_DIFFERENCE in scores.pooled:
        found.append("Difference in right classes of one reader: hybrid score interval (Newcombe 1998).")
    found.append(
        "Equivalence: two one-sided tests at 5% (Schuirmann 1987), which is the 90% interval within the margin."
    )
    found.append("Agreement: Fleiss' kappa (1971), Cohen's kappa (1960), of quality with quadratic weights (1968).")
    return found


def describe_study(scores: StudyScores) -> str:
    """Return what was shown and asked."""
    study = scores.study
    shown = len(study.first_trials)
    what = f"{shown} pairs" if study.pairs else f"{shown} images, half of them synthetic,"
    repeated = len(study.trials) - shown
    again = f", {repeated} of them twice" if repeated else ""
    asked = join_words([TASK_LABELS[task] for task in study.tasks])
    classes = f" of {join_words(study.classes)}" if len(study.classes) > 1 else ""
    return f"{what}{classes} at {study.side} x {study.side} pixels{again}; asked: {asked}"
