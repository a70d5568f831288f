"""The catalogue: cards of all published models, and where each is."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from medzoo.app.pages import QUIET, part, show
from medzoo.hub.entries import ModelEntry
from medzoo.hub.registry import GENERATOR, load_registry
from medzoo.hub.sources import locate
from medzoo.plugins.lookup import load_plugins
from medzoo.report.gallery.models import ModelPage, model_page

if TYPE_CHECKING:
    from gradio import Blocks

ALL = "all"
PLACES = {"bundled": "bundled", "cached": "cached", "package": "bundled", "mirror": "mirror"}
REMOTE = "remote"


def page(blocks: Blocks) -> None:
    """Lay out the page, whose cards are read when it is first shown."""
    import gradio as gr

    entries = _entries()
    kinds = [ALL, *dict.fromkeys(entry.kind for entry in entries)]
    modalities = [ALL, *sorted({entry.modality for entry in entries})]
    places = [ALL, *sorted({place_of(entry) for entry in entries})]
    with gr.Row():
        kind = gr.Dropdown(kinds, value=ALL, label="Kind", min_width=130, elem_id="kind")
        modality = gr.Dropdown(modalities, value=ALL, label="Modality", min_width=130, elem_id="modality")
        place = gr.Dropdown(places, value=ALL, label="Where it is", min_width=130, elem_id="place")
    cards = part('<p role="status">Reading the models ...</p>', elem_id="cards")
    chosen = [kind, modality, place]
    blocks.load(render, chosen, cards, **QUIET)
    for choice in chosen:
        choice.change(render, chosen, cards, **QUIET)


def render(kind: str, modality: str, place: str) -> str:
    """Return the cards of the models that match all choices."""
    entries = _entries()
    catalogue = _catalogue(tuple((entry.name, place_of(entry)) for entry in entries))
    chosen = [
        (model, where)
        for model in catalogue
        for where in [place_of(model.entry)]
        if kind in (ALL, model.entry.kind) and modality in (ALL, model.entry.modality) and place in (ALL, where)
    ]
    return show("app_models.html.j2", models=chosen, total=len(catalogue))


def place_of(entry: ModelEntry) -> str:
    """Return where a model's files are."""
    return PLACES.get(locate(entry)[0], REMOTE)


def _entries() -> list[ModelEntry]:
    entries = load_registry(plugins=load_plugins()).entries
    return sorted(entries, key=lambda entry: entry.kind != GENERATOR)


@lru_cache(maxsize=1)
def _catalogue(places: tuple[tuple[str, str], ...]) -> tuple[ModelPage, ...]:
    """Return what is shown of the models, as long as they are in these `places`."""
    return tuple(map(model_page, _entries()))
