"""Generate the pages on bundled models: an index and the model cards."""

from __future__ import annotations

import re
from pathlib import Path

from medzoo.hub.registry import ModelEntry, load_registry
from medzoo.storage.paths import bundled_root
from reference_pages.markdown import escaped, page, table, toctree


def model_pages() -> dict[str, str]:
    """Return the index of bundled models, and each model card."""
    entries = [entry for entry in load_registry().entries if (bundled_root() / "cards" / entry.id).is_dir()]
    index = page(
        "# Models",
        "These models ship with medzoo and need no network. Each page is the published model card: training data, "
        "settings, limitations and license. `medzoo list` searches models, `medzoo show ID` describes one.",
        table(("model", "kind", "architecture", "pixels", "classes", "license"), map(facts, entries)),
        toctree(entry.id for entry in entries),
    )
    return {"models/index.md": index} | {f"models/{entry.id}.md": card(entry) for entry in entries}


def facts(entry: ModelEntry) -> tuple[str, ...]:
    """Return the table cells of a model."""
    classes = ", ".join(map(escaped, entry.classes))
    return (f"[`{entry.id}`]({entry.id}.md)", entry.kind, f"`{entry.plugin}`", str(entry.size), classes, entry.license)


def card(entry: ModelEntry) -> str:
    """Return the model card under the model's id, without the front matter, which is for the Hub."""
    text = (bundled_root() / "cards" / entry.id / "README.md").read_text("utf-8")
    body = text.partition("\n---\n")[2].lstrip().replace("](samples.png)", f"]({entry.id}.png)")
    return re.sub(r"^# .*$", lambda title: f"# {entry.id}\n\n**{title[0][2:]}**", body, count=1, flags=re.MULTILINE)


def sample_images() -> dict[str, Path]:
    """Return the sample images of the cards by their paths under docs/reference."""
    return {f"models/{path.parent.name}.png": path for path in bundled_root().glob("cards/*/samples.png")}
