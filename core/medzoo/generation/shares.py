"""Mixtures of generators (`a=0.8`, `b=0.2`) and their exact integer shares."""

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from medzoo.errors import ConfigError

_EXAMPLE = "for instance --gen ddpm-busi=0.8 --gen ddpm-var-busi=0.2"


def parse_mixture(given: Sequence[str]) -> list[tuple[str, Fraction]]:
    """Names and shares, in the order given; the shares are positive and sum to exactly 1.

    Raises: ConfigError for shares that do not sum to 1 within 1e-6, a share missing, or a name given twice.
    """
    if not given:
        raise ConfigError("no generator is given", "name one with --gen; `medzoo list` shows them")
    if len(given) == 1 and _split(given[0])[1] is None:
        return [(given[0], Fraction(1))]
    names, shares = [], []
    for text in given:
        name, share = _split(text)
        if share is None:
            raise ConfigError(f"a mixture needs a share for every generator, '{text}' has none", _EXAMPLE)
        if name in names:
            raise ConfigError(f"the generator '{name}' is given twice", "add its shares up")
        names.append(name)
        shares.append(_share(share, text))
    total = sum(shares, Fraction(0))
    if abs(total - 1) > Fraction(1, 10**6):
        raise ConfigError(f"the shares of a mixture must sum to 1, these sum to {float(total):g}", _EXAMPLE)
    return [(name, share / total) for name, share in zip(names, shares, strict=True)]


def exact_shares(total: int, shares: Sequence[Fraction]) -> list[int]:
    """Whole numbers in proportion to `shares` that sum to exactly `total` (largest remainder, ties to the earlier)."""
    whole = sum(shares, Fraction(0))
    exact = [total * share / whole for share in shares]
    counts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def _split(text: str) -> tuple[str, str | None]:
    """The name and, after the last '=', the share; an existing folder is a name whatever it holds."""
    name, equals, share = text.rpartition("=")
    if not equals or Path(text).is_dir():
        return text, None
    return name, share


def _share(share: str, text: str) -> Fraction:
    try:
        value = Fraction(share)
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"the share in '{text}' must be a number, not '{share}'", _EXAMPLE) from None
    if value <= 0:
        raise ConfigError(f"the share in '{text}' must be more than 0", _EXAMPLE)
    return value
