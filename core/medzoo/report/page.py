"""The frame of a report: one HTML file that needs nothing beside it, on any screen, by day, by night and on paper."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medzoo.report.formatting import counted, interval, listed, number, scored, sentence
from medzoo.report.style import Drawing

_BREAK = Markup("<wbr>")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture within the page: its data URI, what it shows in words, its width in pixels."""

    uri: str
    alt: str
    width: int = 0


def png_picture(png: bytes, *, alt: str, width: int) -> Picture:
    """A picture from a PNG file's bytes."""
    return Picture(uri=_uri(png, "image/png"), alt=alt, width=width)


def drawn_picture(drawing: Drawing) -> Picture:
    """A picture from a drawing, as the SVG that follows the reader's colour scheme."""
    return Picture(uri=_uri(drawing.svg, "image/svg+xml"), alt=drawing.alt)


def render(template: str, values: Mapping[str, Any]) -> bytes:
    """The page that a template of this package makes of `values`, UTF-8; whatever is not a template's is escaped."""
    environment = Environment(
        loader=PackageLoader("medzoo.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, interval=interval, counted=counted, listed=listed)
    environment.filters.update(scored=scored, sentence=sentence, breakable=breakable)
    environment.tests["nested"] = _nested
    # A file name may hold a lone surrogate, where the system's bytes were no UTF-8.
    return environment.get_template(template).render(dict(values)).encode("utf-8", "replace")


def breakable(text: str) -> Markup:
    """The text, escaped, with a place to break the line behind each mark of a path or a name."""
    broken = Markup("")
    for letter in str(text):
        broken += Markup.escape(letter)
        if letter in "/\\_@:=,":
            broken += _BREAK
    return broken


def _nested(value: Any) -> bool:
    """Whether a value of a record has parts that want lines of their own."""
    return isinstance(value, Mapping) or (
        isinstance(value, list | tuple) and any(isinstance(part, Mapping | list | tuple) for part in value)
    )


def _uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
