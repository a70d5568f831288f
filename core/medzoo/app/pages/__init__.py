"""The pages of the workbench: one module each, put together here. Gradio is imported by the functions alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medzoo._version import __version__
from medzoo.app.generators import drawable_models
from medzoo.app.jobs import Job, Jobs
from medzoo.app.paths import list_folders
from medzoo.errors import MedzooError
from medzoo.report.page import render

if TYPE_CHECKING:
    from gradio import Blocks
    from gradio.components import HTML, Component
    from gradio.themes import Base

TITLE = "medzoo"
FOLDERS, GENERATORS = "folders", "generators"
QUIET: Mapping[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""How every event of a page is declared."""
_EVERY = 1.5  # seconds

# The palette of page.css.
_LIGHT = {"ground": "#fbfbfa", "panel": "#ffffff", "ink": "#1b1f24", "soft": "#565e69", "rule": "#d9dce1"}
_DARK = {"ground": "#14171b", "panel": "#1c2026", "ink": "#e8eaed", "soft": "#a5adb8", "rule": "#363c45"}
_LINK, _LINK_DARK = "#005a8f", "#7cc4ff"


@dataclass(frozen=True, kw_only=True)
class Live:
    """A part of a page that follows the jobs: it is rendered again where what `version` returns has changed."""

    part: HTML
    render: Callable[[], str]
    version: Callable[[], Hashable]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list to choose from, of the `FOLDERS` or `GENERATORS` there are: read again when a page is loaded or opened."""

    part: Component
    of: str
    before: tuple[str, ...] = ()
    """What can be chosen beside those."""


def build(root: Path, jobs: Jobs) -> Blocks:
    """Return the pages of the folder `root`."""
    import gradio as gr

    from medzoo.app.pages import augment, data, draw, models, reports

    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        with gr.Row(elem_id="head", equal_height=False):
            part(show("app_head.html.j2", root=root.name or str(root), version=__version__), min_width=200)
            refresh = gr.Button("Refresh", size="sm", scale=0, min_width=90, elem_id="refresh")
        banner = part(elem_id="job")
        stop = gr.Button("Stop the job", variant="stop", size="sm", visible=False, elem_id="stop-job")
        with gr.Tabs():
            with gr.Tab("Models", id="models"):
                models.page(blocks)
            with gr.Tab("Draw", id="draw") as draw_tab:
                draw_live, draw_lists = draw.page(root, jobs)
            with gr.Tab("Data", id="data") as data_tab:
                data_live, data_lists = data.page(root, jobs)
            with gr.Tab("Augment", id="augment") as augment_tab:
                augment_live, augment_lists = augment.page(root, jobs)
            with gr.Tab("Reports", id="reports") as reports_tab:
                reports_part, list_reports = reports.page(root)
        live = [*draw_live, *data_live, *augment_live]
        lists = [*draw_lists, *data_lists, *augment_lists]
        opened = [tab.select for tab in (draw_tab, data_tab, augment_tab)]
        shown_again = [blocks.load, *opened, refresh.click]
        # Not dropped, as Gradio would while the same is under way: something new may have come since that began.
        again: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}
        gr.on(shown_again, partial(_list_again, root, lists), None, [one.part for one in lists], **again)
        gr.on([blocks.load, reports_tab.select, refresh.click], list_reports, None, reports_part, **again)
        seen = gr.State({})
        timer = gr.Timer(_EVERY)

        def follow(seen: dict[int, Hashable]) -> list[Any]:
            job = jobs.running()
            shown: list[Any] = [show("app_job.html.j2", job=job), gr.update(visible=job is not None)]
            found: dict[int, Hashable] = {}
            for number, one in enumerate(live):
                found[number] = one.version()
                shown.append(gr.skip() if seen.get(number) == found[number] else one.render())
            return [*shown, found]

        def end() -> None:
            if (job := jobs.running()) is not None:
                jobs.stop(job.id)

        outputs = [banner, stop, *(one.part for one in live), seen]
        blocks.load(partial(follow, {}), None, outputs, **QUIET)
        timer.tick(follow, seen, outputs, **QUIET)
        stop.click(end, None, None, **QUIET)
    return blocks


def _list_again(root: Path, lists: list[Listing]) -> dict[Component, Any]:
    """Return the update of each list to what is in the folder now."""
    import gradio as gr

    found = {FOLDERS: list_folders(root), GENERATORS: list(drawable_models(root))}
    return {one.part: gr.update(choices=[*one.before, *found[one.of]]) for one in lists}


def part(value: str = "", **given: Any) -> HTML:
    """Lay out a part of a page that is HTML, in the style of the reports and not in Gradio's."""
    import gradio as gr

    return gr.HTML(value, apply_default_css=False, **given)


def show(template: str, **values: Any) -> str:
    """Render a template of the reports as a part of a page."""
    return render(template, values).decode()


def no_generator() -> HTML:
    """Lay out, in place of a page, that there is no generator to choose."""
    return part(show("app_message.html.j2", message="no generator is on this machine", hint="medzoo pull ldm-udder"))


def told(error: MedzooError) -> str:
    """Return an error as a part of a page."""
    return show("app_message.html.j2", message=error.message, hint=error.hint)


def version_of(jobs: list[Job]) -> Hashable:
    """Return what of jobs makes them be shown anew."""
    return tuple((job.id, job.state, job.done, job.total) for job in jobs)


def theme() -> Base:
    """Return Gradio's plainest theme in the colors of the reports, with the fonts of the reader's system."""
    from gradio.themes import Base

    return Base(
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace"],
    ).set(
        body_background_fill=_LIGHT["ground"],
        body_background_fill_dark=_DARK["ground"],
        body_text_color=_LIGHT["ink"],
        body_text_color_dark=_DARK["ink"],
        body_text_color_subdued=_LIGHT["soft"],
        body_text_color_subdued_dark=_DARK["soft"],
        block_background_fill=_LIGHT["panel"],
        block_background_fill_dark=_DARK["panel"],
        block_border_color=_LIGHT["rule"],
        block_border_color_dark=_DARK["rule"],
        border_color_primary=_LIGHT["rule"],
        border_color_primary_dark=_DARK["rule"],
        block_label_text_color=_LIGHT["ink"],
        block_label_text_color_dark=_DARK["ink"],
        block_info_text_color=_LIGHT["soft"],
        block_info_text_color_dark=_DARK["soft"],
        block_title_text_color=_LIGHT["ink"],
        block_title_text_color_dark=_DARK["ink"],
        input_background_fill=_LIGHT["panel"],
        input_background_fill_dark=_DARK["ground"],
        input_border_color=_LIGHT["soft"],
        input_border_color_dark=_DARK["soft"],
        button_primary_background_fill=_LINK,
        button_primary_background_fill_dark=_LINK_DARK,
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#14171b",
        button_primary_background_fill_hover="#00466f",
        button_primary_background_fill_hover_dark="#a5d6ff",
        button_secondary_background_fill=_LIGHT["panel"],
        button_secondary_background_fill_dark=_DARK["panel"],
        button_secondary_text_color=_LINK,
        button_secondary_text_color_dark=_LINK_DARK,
        button_secondary_border_color=_LINK,
        button_secondary_border_color_dark=_LINK_DARK,
        color_accent=_LINK,
        input_border_width="1px",
        slider_color=_LINK,
        slider_color_dark=_LINK_DARK,
        checkbox_background_color_selected=_LINK,
        checkbox_background_color_selected_dark=_LINK,
    )


def stylesheet() -> str:
    """Return the style sheet as HTML: that of the reports, inside .mz alone, and the workbench's own."""
    folder = files("medzoo.report") / "templates"
    page, gallery, own = ((folder / name).read_text("utf-8") for name in ("page.css", "gallery.css", "app.css"))
    shared = page.replace(":root", ":scope") + gallery
    return f"<style>\n@scope (.mz) {{\n{shared}\n}}\n{own}</style>"
