"""How reports write numbers: four significant digits, scores with three decimals, words for what is no number."""

from __future__ import annotations

import math
from collections.abc import Sequence

MINUS = "\u2212"


def number(value: float | None) -> str:
    """The value with 4 significant digits, whole numbers as they are; "not defined" for NaN, "" for None."""
    if value is None:
        return ""
    if math.isnan(value):
        return "not defined"
    sign = MINUS if value < 0 else ""
    size = abs(value)
    if math.isinf(size):
        return f"{sign}infinite"
    if size < 1e9 and (size == math.floor(size) or size >= 1e4):
        return f"{sign}{size:,.0f}"
    if 1e-4 <= size < 1e4:
        return sign + f"{size:#.4g}".removesuffix(".")
    digits, _, power = f"{size:.3e}".partition("e")
    return f"{sign}{digits}e{int(power)}".replace("e-", f"e{MINUS}")


def scored(value: float) -> str:
    """A score in [0, 1], or a difference of two, with 3 decimals; "not defined" for NaN."""
    return "not defined" if math.isnan(value) else f"{value:.3f}".replace("-", MINUS)


def interval(bounds: tuple[float, float] | None) -> str:
    """ "low to high"; "" for None."""
    return "" if bounds is None else f"{number(bounds[0])} to {number(bounds[1])}"


def counted(count: int, one: str, many: str = "") -> str:
    """ "1 image", "1,200 images": `many` is the plural where it is not `one` with an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def sentence(text: str) -> str:
    """The text with a capital at its beginning and a mark at its end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", ":")) or not text else ".")


def listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
