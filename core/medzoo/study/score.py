"""Score the answers to a reading study: each reader, all readers together, and what may be concluded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medzoo.errors import ConfigError
from medzoo.storage.files import plain
from medzoo.study import statistics
from medzoo.study.answers import Reader
from medzoo.study.key import CALLED, CLASS, ORIGIN, QUALITY, QUALITY_LEVELS, Study
from medzoo.study.power import MARGIN
from medzoo.study.statistics import Equivalence, Estimate, Scores

QUALITY_MARGIN = 0.5

AUC, ACCURACY, SENSITIVITY, SPECIFICITY, D_PRIME = "auc", "accuracy", "sensitivity", "specificity", "d_prime"
CLASS_REAL, CLASS_SYNTHETIC, CLASS_DIFFERENCE = "class_real", "class_synthetic", "class_difference"
QUALITY_REAL, QUALITY_SYNTHETIC, QUALITY_DIFFERENCE = "quality_real", "quality_synthetic", "quality_difference"

_SHARE = (0.0, 1.0)
_BOUNDS: Mapping[str, tuple[float, float]] = {
    AUC: _SHARE,
    ACCURACY: _SHARE,
    SENSITIVITY: _SHARE,
    SPECIFICITY: _SHARE,
    D_PRIME: (-math.inf, math.inf),
    CLASS_REAL: _SHARE,
    CLASS_SYNTHETIC: _SHARE,
    CLASS_DIFFERENCE: (-1.0, 1.0),
    QUALITY_REAL: (1.0, QUALITY_LEVELS),
    QUALITY_SYNTHETIC: (1.0, QUALITY_LEVELS),
    QUALITY_DIFFERENCE: (1.0 - QUALITY_LEVELS, QUALITY_LEVELS - 1.0),
}


@dataclass(frozen=True, kw_only=True)
class ReaderScores:
    """What one reader's answers say: estimates by measure, p of accuracy against chance, and agreement with oneself.

    `criterion` is the bias c: above 0, the reader calls images real rather than synthetic. `repeated` is the number of
    trials shown twice, and `agreement` Cohen's kappa of both answers by task. `seconds` is the median time of a trial.
    """

    code: str
    experience: int | None
    seconds: float
    adjusted: int
    estimates: Mapping[str, Estimate]
    p: float
    criterion: float
    repeated: int
    agreement: Mapping[str, Estimate]


@dataclass(frozen=True, kw_only=True)
class OriginCounts:
    """How often images of a class were called real and synthetic, over all readers; pairs: (wrong, right)."""

    label: str
    real: tuple[int, int]
    synthetic: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class StudyScores:
    """What a reading study found: each reader, the mean over readers, agreement between them, and equivalence.

    Images shown twice count once, by the first answer. `agreement` is Fleiss' kappa by task, of quality the mean
    weighted kappa of all pairs of readers; empty for one reader. `confusion` are counts over all readers, true classes
    in rows, by "real" and "synthetic". `equivalences` are by measure. `p` is of the main measure against chance.
    """

    study: Study
    readers: tuple[ReaderScores, ...]
    pooled: Mapping[str, Estimate]
    agreement: Mapping[str, Estimate]
    equivalences: Mapping[str, Equivalence]
    p: float
    origins: tuple[OriginCounts, ...]
    confusion: Mapping[str, tuple[tuple[int, ...], ...]]
    curves: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]

    @property
    def main(self) -> str:
        """The measure of how well readers tell real from synthetic: the ROC area, of pairs the accuracy."""
        return ACCURACY if self.study.pairs else AUC

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the key; undefined ones are null."""
        return {
            "study": self.study.id,
            "p": plain(self.p),
            "readers": [plain(one) for one in self.readers],
            "pooled": plain(self.pooled),
            "agreement": plain(self.agreement),
            "equivalences": {name: {**plain(one), "shown": one.shown} for name, one in self.equivalences.items()},
            "origins": plain(self.origins),
            "confusion": plain(self.confusion),
        }


def score_answers(
    study: Study, readers: Sequence[Reader], *, margin: float = MARGIN, quality_margin: float = QUALITY_MARGIN
) -> StudyScores:
    """Score the answers of readers, `margin` and `quality_margin` being what counts as equivalent.

    `margin` is of the ROC area around 0.5 and of the share of right classes, `quality_margin` of the mean quality.
    Raises: ConfigError for a margin out of range.
    """
    if not 0 < margin < 0.5 or not 0 < quality_margin < QUALITY_LEVELS - 1:
        raise ConfigError(
            f"--margin {margin:g} or --quality-margin {quality_margin:g} is out of range",
            f"use between 0 and 0.5, and between 0 and {QUALITY_LEVELS - 1}",
        )
    trials = study.first_trials
    synthetic = np.array([study.synthetic(trial) for trial in trials])
    given = {
        task: np.array([[reader.answers[trial.id].given[task] for trial in trials] for reader in readers])
        for task in study.tasks
    }
    labels = np.array([study.classes.index(study.label(trial)) for trial in trials])
    scores, counts = _all_scores(study, given, synthetic, labels)
    repeated = [trial for trial in study.trials if trial.repeat_of]
    pooled = {name: statistics.over_readers(found, bounds=_BOUNDS[name]) for name, found in scores.items()}
    if len(readers) == 1:
        pooled = _of_reader(scores, counts, 0)
    per_reader = []
    for index, reader in enumerate(readers):
        estimates = _of_reader(scores, counts, index)
        times = [reader.answers[trial.id].milliseconds for trial in study.trials]
        right, n = counts[ACCURACY][index] if ACCURACY in counts else (0, 0)
        per_reader.append(
            ReaderScores(
                code=reader.code,
                experience=reader.experience,
                seconds=float(np.median(times)) / 1000,
                adjusted=sum(one.adjusted for one in reader.answers.values()),
                estimates=estimates,
                p=statistics.chance_p(right, n) if n else math.nan,
                criterion=_criterion(given[ORIGIN][index] >= CALLED, synthetic) if ORIGIN in given else math.nan,
                repeated=len(repeated),
                agreement={task: _with_oneself(study, reader, task) for task in study.tasks},
            )
        )
    return StudyScores(
        study=study,
        readers=tuple(per_reader),
        pooled=pooled,
        agreement={task: _between(study, given[task], task) for task in study.tasks} if len(readers) > 1 else {},
        equivalences=_equivalences(study, pooled, margin, quality_margin),
        p=_p(study, pooled, counts, given, synthetic) if ORIGIN in given else math.nan,
        origins=_origin_counts(study, given[ORIGIN] >= CALLED, synthetic, labels) if ORIGIN in given else (),
        confusion=_confusion(study, given[CLASS] - 1, synthetic, labels) if CLASS in given else {},
        curves={reader.code: _curve(given[ORIGIN][index], synthetic) for index, reader in enumerate(readers)}
        if ORIGIN in given and not study.pairs
        else {},
    )


_Counts = dict[str, list[tuple[int, int]]]


def _all_scores(
    study: Study, given: Mapping[str, np.ndarray], synthetic: np.ndarray, labels: np.ndarray
) -> tuple[dict[str, Scores], _Counts]:
    """Return the scores by measure, and for proportions the right answers and all of each reader."""
    scores: dict[str, Scores] = {}
    counts: _Counts = {}

    def share(name: str, right: np.ndarray) -> None:
        scores[name] = statistics.means(right.astype(float))
        counts[name] = [(int(own.sum()), len(own)) for own in right]

    if ORIGIN in given:
        called = given[ORIGIN] >= CALLED
        right = called == synthetic
        if study.pairs:
            share(ACCURACY, right)
            scores[D_PRIME] = statistics.discriminability_of_pairs(right)
        else:
            ratings = given[ORIGIN]
            scores[AUC] = statistics.roc_areas(ratings[:, synthetic], ratings[:, ~synthetic])
            # Both sets have as many images, which are drawn from each by itself.
            scores[ACCURACY] = statistics.means(right[:, synthetic] / 2, right[:, ~synthetic] / 2)
            counts[ACCURACY] = [(int(own.sum()), len(own)) for own in right]
            share(SENSITIVITY, right[:, synthetic])
            share(SPECIFICITY, right[:, ~synthetic])
            scores[D_PRIME] = statistics.discriminability(called[:, synthetic], called[:, ~synthetic])
    if CLASS in given:
        right = given[CLASS] - 1 == labels
        share(CLASS_REAL, right[:, ~synthetic])
        share(CLASS_SYNTHETIC, right[:, synthetic])
        scores[CLASS_DIFFERENCE] = statistics.means(
            right[:, synthetic].astype(float), -right[:, ~synthetic].astype(float)
        )
    if QUALITY in given:
        quality = given[QUALITY].astype(float)
        scores[QUALITY_REAL] = statistics.means(quality[:, ~synthetic])
        scores[QUALITY_SYNTHETIC] = statistics.means(quality[:, synthetic])
        scores[QUALITY_DIFFERENCE] = statistics.means(quality[:, synthetic], -quality[:, ~synthetic])
    return scores, counts


def _of_reader(scores: Mapping[str, Scores], counts: _Counts, index: int) -> dict[str, Estimate]:
    """Return one reader's estimates: exact intervals of proportions, Newcombe's of a difference, else normal ones."""
    found = {}
    for name, all_scores in scores.items():
        if name in counts:
            found[name] = statistics.proportion(*counts[name][index])
        elif name == CLASS_DIFFERENCE:
            found[name] = statistics.difference(counts[CLASS_SYNTHETIC][index], counts[CLASS_REAL][index])
        else:
            found[name] = statistics.of_reader(all_scores, index, bounds=_BOUNDS[name])
    return found


def _criterion(called: np.ndarray, synthetic: np.ndarray) -> float:
    """Return the bias c = -(z(hit rate) + z(false alarm rate)) / 2, rates corrected as by Hautus (1995)."""
    from scipy import stats

    rates = [(own.sum() + 0.5) / (len(own) + 1) for own in (called[synthetic], called[~synthetic])]
    return float(-(stats.norm.ppf(rates[0]) + stats.norm.ppf(rates[1])) / 2)


def _with_oneself(study: Study, reader: Reader, task: str) -> Estimate:
    """Return the agreement of both answers to trials that were shown twice."""
    pairs = [
        (reader.answers[trial.repeat_of].given[task], reader.answers[trial.id].given[task])
        for trial in study.trials
        if trial.repeat_of
    ]
    first, second = (np.array([pair[k] for pair in pairs], np.int64) for k in (0, 1))
    if task == ORIGIN:
        return statistics.cohen((first >= CALLED).astype(int), (second >= CALLED).astype(int), 2)
    levels = len(study.classes) if task == CLASS else QUALITY_LEVELS
    return statistics.cohen(first - 1, second - 1, levels, weighted=task == QUALITY)


def _between(study: Study, answers: np.ndarray, task: str) -> Estimate:
    """Return the agreement between readers: Fleiss' kappa, of quality the mean weighted kappa of all pairs."""
    if task == ORIGIN:
        return statistics.fleiss((answers >= CALLED).astype(int), 2)
    if task == CLASS:
        return statistics.fleiss(answers - 1, len(study.classes))
    count = len(answers)
    found = [
        statistics.cohen(answers[i] - 1, answers[j] - 1, QUALITY_LEVELS, weighted=True)
        for i in range(count)
        for j in range(i + 1, count)
    ]
    values = [one.value for one in found if not math.isnan(one.value)]
    if not values:
        return Estimate(value=math.nan, n=answers.shape[1], reason="all answers are of one category")
    if len(found) == 1:
        return found[0]
    method = f"mean of Cohen's kappa, quadratic weights (1968), over {len(values)} pairs of readers"
    return Estimate(value=float(np.mean(values)), n=answers.shape[1], method=method)


def _p(
    study: Study,
    pooled: Mapping[str, Estimate],
    counts: _Counts,
    given: Mapping[str, np.ndarray],
    synthetic: np.ndarray,
) -> float:
    """Return the p value of the main measure against chance.

    Where all answers are alike, as if a reader tells all images apart, it is the largest of the readers' own: of the
    exact binomial test for pairs, else of the Mann-Whitney test.
    """
    if study.pairs and len(given[ORIGIN]) == 1:
        return statistics.chance_p(*counts[ACCURACY][0])
    p = statistics.two_sided_p(pooled[ACCURACY if study.pairs else AUC], 0.5)
    if not math.isnan(p):
        return p
    if study.pairs:
        return max(statistics.chance_p(*own) for own in counts[ACCURACY])
    return max(statistics.mann_whitney_p(own[synthetic], own[~synthetic]) for own in given[ORIGIN])


def _equivalences(
    study: Study, pooled: Mapping[str, Estimate], margin: float, quality_margin: float
) -> dict[str, Equivalence]:
    main = ACCURACY if study.pairs else AUC
    wanted = {main: (margin, 0.5), CLASS_DIFFERENCE: (margin, 0.0), QUALITY_DIFFERENCE: (quality_margin, 0.0)}
    return {
        name: statistics.equivalence(pooled[name], margin=own, center=center)
        for name, (own, center) in wanted.items()
        if name in pooled
    }


def _origin_counts(
    study: Study, called: np.ndarray, synthetic: np.ndarray, labels: np.ndarray
) -> tuple[OriginCounts, ...]:
    rows = []
    for index, label in enumerate(study.classes):
        own = labels == index
        if study.pairs:
            right = (called == synthetic)[:, own]
            counts = (int((~right).sum()), int(right.sum()))
            rows.append(OriginCounts(label=label, real=counts, synthetic=counts))
            continue
        real, fake = called[:, own & ~synthetic], called[:, own & synthetic]
        rows.append(
            OriginCounts(
                label=label,
                real=(int((~real).sum()), int(real.sum())),
                synthetic=(int((~fake).sum()), int(fake.sum())),
            )
        )
    return tuple(rows)


def _confusion(
    study: Study, answers: np.ndarray, synthetic: np.ndarray, labels: np.ndarray
) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Return the counts of answered classes (columns) by true class (rows), over all readers, for each set."""
    found = {}
    for name, chosen in (("real", ~synthetic), ("synthetic", synthetic)):
        counts = np.zeros((len(study.classes),) * 2, np.int64)
        np.add.at(counts, (np.broadcast_to(labels[chosen], answers[:, chosen].shape), answers[:, chosen]), 1)
        found[name] = tuple(map(tuple, counts.tolist()))
    return found


def _curve(ratings: np.ndarray, synthetic: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return a reader's ROC curve: false and true positive rates."""
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(synthetic, ratings, drop_intermediate=False)
    return tuple(false.tolist()), tuple(true.tolist())
