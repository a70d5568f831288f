"""Format numbers, counts and lists for reports."""

from __future__ import annotations

import math
from collections.abc import Sequence

MINUS = "\u2212"


def format_number(value: float | None) -> str:
    """Format a value with 4 significant digits, integers in full; "not defined" for NaN, "" for None."""
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


def format_score(value: float) -> str:
    """Format a score in [0, 1], or a difference of two, with 3 decimals; "not defined" for NaN."""
    return "not defined" if math.isnan(value) else f"{value:.3f}".replace("-", MINUS)


def format_points(value: float) -> str:
    """Format a difference of scores in percentage points, with its sign: "+1.2"; "not defined" for NaN."""
    # Adding 0 turns a rounded -0.0 into 0.0.
    return "not defined" if math.isnan(value) else f"{round(100 * value, 1) + 0.0:+.1f}".replace("-", MINUS)


def format_interval(bounds: tuple[float, float] | None) -> str:
    """Format bounds as "low to high"; "" for None."""
    return "" if bounds is None else f"{format_number(bounds[0])} to {format_number(bounds[1])}"


def pluralize(count: int, one: str, many: str = "") -> str:
    """Format a count with its noun: "1 image", "1,200 images"; `many` is the plural where it is not `one` + "s"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def as_sentence(text: str) -> str:
    """Capitalize the text and end it with a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", ":")) or not text else ".")


def join_words(words: Sequence[str]) -> str:
    """Join words as "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
