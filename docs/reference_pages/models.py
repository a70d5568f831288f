"""The bundled models: a table, and each one's card."""

from __future__ import annotations

import re
from pathlib import Path

from medzoo.hub.registry import Row, load_registry
from medzoo.storage.paths import bundled_root
from reference_pages.markdown import escaped, page, table, toctree


def model_pages() -> dict[str, str]:
    """A page for each bundled model, which is its card, and one that lists them."""
    rows = [row for row in load_registry().rows if (bundled_root() / "cards" / row.id).is_dir()]
    index = page(
        "# Models",
        "These come with medzoo and need no network. Each page is the model's card, as it is published: training data, "
        "settings, limits and licence. `medzoo show ID` prints the facts, `medzoo list` finds models.",
        table(("model", "kind", "of", "pixels", "classes", "licence"), map(facts, rows)),
        toctree(row.id for row in rows),
    )
    return {"models/index.md": index} | {f"models/{row.id}.md": card(row) for row in rows}


def facts(row: Row) -> tuple[str, ...]:
    """A model's facts as cells."""
    classes = ", ".join(map(escaped, row.classes))
    return (f"[`{row.id}`]({row.id}.md)", row.kind, f"`{row.plugin}`", str(row.size), classes, row.license)


def card(row: Row) -> str:
    """The model's card under its id, without the front matter, which is for the Hub; `pictures` has its image."""
    text = (bundled_root() / "cards" / row.id / "README.md").read_text("utf-8")
    body = text.partition("\n---\n")[2].lstrip().replace("](samples.png)", f"]({row.id}.png)")
    return re.sub(r"^# .*$", lambda title: f"# {row.id}\n\n**{title[0][2:]}**", body, count=1, flags=re.MULTILINE)


def pictures() -> dict[str, Path]:
    """The files of the cards' images, by their paths under docs/reference."""
    return {f"models/{path.parent.name}.png": path for path in bundled_root().glob("cards/*/samples.png")}
