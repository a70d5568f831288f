"""Render the Markdown of a model card inside a page, whoever wrote it: no raw HTML, no image from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from markupsafe import Markup

from medzoo.hub.entries import SAMPLES

if TYPE_CHECKING:
    from markdown_it.token import Token

_LOWEST = 6
_SCHEMES = ("https://", "http://", "mailto:")


def render_card(text: str, *, level: int = 3) -> Markup:
    """Return the HTML of a card without its front matter.

    Its first headings become those of `level`, and none skips a level. Raw HTML is shown as text. Images are left out
    but for their alternative text, which leads to #samples for the card's own. Links that are no addresses of the web
    are text.
    """
    from markdown_it import MarkdownIt

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = list(_adapted(markdown.parse(without_front_matter(text)), level))
    # The renderer escapes all text, and the parser has made no token of raw HTML.
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))


def without_front_matter(text: str) -> str:
    """Return a card without the YAML between the lines "---" at its start."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(lines[lines.index("---", 1) + 1 :]) if lines[0] == "---" and "---" in lines[1:] else text


def _adapted(tokens: list[Token], level: int) -> Iterator[Token]:
    from markdown_it.token import Token

    previous, tables = level - 1, 0
    for token in tokens:
        if token.type == "heading_open":
            previous = min(int(token.tag[1:]) + level - 1, previous + 1, _LOWEST)
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{previous}"
        if token.type == "th_open":
            token.attrSet("scope", "col")
        if token.children:
            token.children = list(_adapted_inline(token.children))
        if token.type == "table_open":
            tables += 1
            region = f'<div class="scroll" role="region" aria-label="Table {tables} of the card" tabindex="0">'
            yield Token("html_block", "", 0, content=region)
        yield token
        if token.type == "table_close":
            yield Token("html_block", "", 0, content="</div>\n")


def _adapted_inline(tokens: list[Token]) -> Iterator[Token]:
    opened: list[bool] = []
    for token in tokens:
        if token.type == "link_open":
            opened.append(str(token.attrGet("href")).lower().startswith(_SCHEMES))
            token.attrSet("rel", "noopener noreferrer")
        if token.type == "image":
            yield from _instead_of_image(token)
        elif token.type not in ("link_open", "link_close") or opened[-1]:
            yield token
        if token.type == "link_close":
            opened.pop()


def _instead_of_image(image: Token) -> Iterator[Token]:
    from markdown_it.token import Token

    shown = image.attrGet("src") == SAMPLES
    words = image.content or "without a description"
    text = Token("text", "", 0, content=f"{words} (see above)" if shown else f"[image: {words}]")
    if shown:
        yield Token("link_open", "a", 1, attrs={"href": "#samples"})
    yield text
    if shown:
        yield Token("link_close", "a", -1)
