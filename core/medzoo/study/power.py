"""How many images and readers a reading study needs, before it is made.

The error of the mean over readers is that of `statistics.over_readers`: with R readers whose true scores spread by
`reader_sd`, and errors of variance V that correlate by `correlation` between readers, it is
(reader_sd^2 + V (1 + (R - 1) correlation)) / R (Hillis, Obuchowski & Berbaum 2011). One reader stands for that reader
alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from scipy import stats

from medzoo.errors import ConfigError
from medzoo.study.statistics import ALPHA

POWER = 0.8
MARGIN = 0.1
"""Of the ROC area, as a share: 0.4 to 0.6 counts as guessing."""
CORRELATION = 0.4
"""Between two readers' errors; 0.43 in the data of Van Dyke et al. (1993)."""
READER_SD = 0.03
"""Of readers' true ROC areas."""
READERS = (1, 2, 3, 5, 8, 12)
IMAGES = (10, 20, 30, 50, 100, 200)

_MOST = 5000


@dataclass(frozen=True, kw_only=True)
class StudyPower:
    """What a study of `readers` can show by the number of images of each set: power by `images`, in [0, 1].

    `equivalence` is the power to show that the score lies within the margin of chance if readers guess, `detection` to
    show that it differs from chance if it differs by the margin. `needed` are the images of each set for 80% power of
    equivalence; None if 5,000 do not suffice.
    """

    readers: int
    images: tuple[int, ...]
    equivalence: tuple[float, ...]
    detection: tuple[float, ...]
    needed: int | None


def study_power(
    *,
    margin: float = MARGIN,
    readers: Sequence[int] = READERS,
    images: Sequence[int] = IMAGES,
    correlation: float = CORRELATION,
    reader_sd: float = READER_SD,
    pairs: bool = False,
) -> list[StudyPower]:
    """Return the power of studies by readers (rows) and by images of each set, real and synthetic.

    With `pairs`, images are pairs of a real and a synthetic one, and the score is the share of right choices.

    Example:
        >>> [row] = medzoo.study_power(margin=0.1, readers=[5], images=[50])
        >>> round(row.equivalence[0], 2), row.needed
        (0.45, 94)

    Raises:
        ConfigError: a value out of range.
    """
    if not 0 < margin < 0.5:
        raise ConfigError(
            f"--margin {margin:g} is not between 0 and 0.5", "0.1 lets areas of 0.4 to 0.6 count as chance"
        )
    if not (0 <= correlation <= 1 and 0 <= reader_sd < 0.5):
        raise ConfigError(
            f"--correlation {correlation:g} or --reader-sd {reader_sd:g} is out of range", "use 0 to 1, and 0 to 0.5"
        )
    if min([*readers, *images], default=0) < 1 or min(images) < 2:
        raise ConfigError("--readers takes 1 and more, --images 2 and more")
    error = partial(_error, correlation=correlation, reader_sd=reader_sd, pairs=pairs)
    return [
        StudyPower(
            readers=count,
            images=tuple(images),
            equivalence=tuple(_equivalence(margin, *error(0.5, n, count)) for n in images),
            detection=tuple(_detection(margin, *error(0.5 + margin, n, count)) for n in images),
            needed=_needed(margin, partial(error, 0.5, readers=count)),
        )
        for count in readers
    ]


def _error(
    score: float, n: int, readers: int, *, correlation: float, reader_sd: float, pairs: bool
) -> tuple[float, float]:
    """Return the standard error of the mean over readers, and its degrees of freedom, with `n` images of each set."""
    if pairs:
        variance = score * (1 - score) / n
    else:  # Hanley & McNeil (1982); at 0.5 that of the Wilcoxon test
        first, second = score / (2 - score), 2 * score**2 / (1 + score)
        variance = (score * (1 - score) + (n - 1) * (first + second - 2 * score**2)) / n**2
    if readers == 1:
        return math.sqrt(variance), math.inf
    spread = reader_sd**2 + variance * (1 - correlation)
    total = spread + readers * variance * correlation
    return math.sqrt(total / readers), total**2 / (spread**2 / (readers - 1)) if spread else math.inf


def _equivalence(margin: float, se: float, df: float) -> float:
    """Return the power of two one-sided tests at a true difference of 0 (Phillips 1990, central approximation)."""
    return max(0.0, 2 * float(stats.t.cdf(margin / se - stats.t.isf(ALPHA, df), df)) - 1)


def _detection(margin: float, se: float, df: float) -> float:
    """Return the power of a two-sided test at a true difference of `margin`."""
    limit = float(stats.t.isf(ALPHA / 2, df))
    if math.isinf(df):
        return float(stats.norm.sf(limit - margin / se) + stats.norm.cdf(-limit - margin / se))
    return float(stats.nct.sf(limit, df, margin / se) + stats.nct.cdf(-limit, df, margin / se))


def _needed(margin: float, error: Callable[[int], tuple[float, float]]) -> int | None:
    """Return the least images of each set for 80% power of equivalence, by the error of n of them; None above 5,000."""

    def enough(n: int) -> bool:
        return _equivalence(margin, *error(n)) >= POWER

    if not enough(_MOST):
        return None
    low, high = 1, _MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
