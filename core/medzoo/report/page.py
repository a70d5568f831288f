"""Render a report as a single HTML file without network access, for any screen, dark mode and print.

Galleries and reading studies have one script each, of this package; no other page has any.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medzoo.report import formatting
from medzoo.report.figures import RenderedFigure

SCRIPTS = ("gallery.js", "study.js")
"""The scripts that pages may hold."""


@dataclass(frozen=True, kw_only=True)
class PageImage:
    """An image embedded in the page: its data URI, alternative text, and width in pixels (0 for an SVG)."""

    uri: str
    alt: str
    width: int = 0


def png_image(png: bytes, *, alt: str, width: int) -> PageImage:
    """Embed the bytes of a PNG file."""
    return PageImage(uri=_data_uri(png, "image/png"), alt=alt, width=width)


def svg_image(figure: RenderedFigure) -> PageImage:
    """Embed a figure as SVG, which follows the reader's color scheme."""
    return PageImage(uri=_data_uri(figure.svg, "image/svg+xml"), alt=figure.alt)


def render(template: str, values: Mapping[str, Any]) -> bytes:
    """Render a template of this package as UTF-8, escaping every value."""
    environment = Environment(
        loader=PackageLoader("medzoo.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=formatting.format_number,
        score=formatting.format_score,
        interval=formatting.format_interval,
        points=formatting.format_points,
        pluralize=formatting.pluralize,
        join_words=formatting.join_words,
        sentence=formatting.as_sentence,
        breakable=breakable,
    )
    environment.tests["nested"] = _nested
    # A file name may hold a lone surrogate, where the system's bytes were not UTF-8.
    return environment.get_template(template).render(dict(values)).encode("utf-8", "replace")


def page_script(name: str) -> tuple[Markup, str]:
    """Return one of `SCRIPTS`, and its digest for a policy of the page: the base64 of its SHA-256."""
    text = (files("medzoo.report") / "templates" / name).read_text("utf-8")
    return Markup(text), base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def breakable(text: str) -> Markup:
    """Escape the text, and allow line breaks after the separators of paths and names."""
    return Markup("").join(
        Markup.escape(letter) + (Markup("<wbr>") if letter in "/\\_@:=," else "") for letter in str(text)
    )


def _nested(value: Any) -> bool:
    """Check whether a value of a record has parts that need lines of their own."""
    return isinstance(value, Mapping) or (
        isinstance(value, list | tuple) and any(isinstance(part, Mapping | list | tuple) for part in value)
    )


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
