"""Fill a folder: plan, estimated time, start, watch, stop and resume."""

from __future__ import annotations

from pathlib import Path

from medzoo.app.augments import (
    AUGMENT,
    PLAN,
    AugmentRequest,
    contact_sheet,
    last_to_resume,
    planned,
    start_augmenting,
)
from medzoo.app.generators import drawable_models, find_generator
from medzoo.app.jobs import Jobs
from medzoo.app.pages import FOLDERS, GENERATORS, QUIET, Listing, Live, no_generator, part, show, told, version_of
from medzoo.app.paths import list_folders
from medzoo.data.images import probe
from medzoo.errors import MedzooError
from medzoo.generation.selection import CRITERIA
from medzoo.report.page import png_image

_SHOWN = 5


def page(root: Path, jobs: Jobs) -> tuple[list[Live], list[Listing]]:
    """Lay out the page; return the parts that follow the jobs, and the lists of what is in the folder."""
    import gradio as gr

    models = drawable_models(root)
    if not models:
        no_generator()
        return [], []
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=300):
            generator = gr.Dropdown(list(models), value=next(iter(models)), label="Generator", elem_id="fill-generator")
            strength = gr.Slider(
                0.05, 1.0, value=1.0, step=0.05, label="Strength", info="Below 1, the real images are varied."
            )
            data = gr.Dropdown(
                list_folders(root), value=None, label="Real images", allow_custom_value=True, elem_id="fill-data"
            )
            to = gr.Number(100, precision=0, minimum=1, label="Images each class should have", elem_id="fill-to")
            out = gr.Textbox("", label="Folder to fill", info="A new folder; an earlier one is resumed.", elem_id="out")
            seed = gr.Number(0, precision=0, label="Seed")
            select = gr.CheckboxGroup(
                list(CRITERIA), label="Select", info="Draws twice as many, and keeps the best by all that are chosen."
            )
            plan = gr.Button("Plan", elem_id="plan")
            start = gr.Button("Start", variant="primary", elem_id="start")
            resume = gr.Button("Resume the last one", elem_id="resume")
            message = part(elem_id="fill-message")
        with gr.Column(scale=2, min_width=300):
            forecast = part(elem_id="forecast")
            filled = part(elem_id="filled")

    def begin(
        dry: bool,
        name: str | None,
        strength: float,
        data: str | None,
        to: float | None,
        out: str,
        seed: float | None,
        select: list[str],
    ) -> str:
        try:
            model = find_generator(root, name)
            request = AugmentRequest(
                generator=model.name,
                strength=strength if strength < 1 else None,
                to=int(to or 0),
                data=data or "",
                out=out.strip(),
                seed=int(seed or 0),
                select=tuple(select),
            )
            job = start_augmenting(jobs, model, request, plan=dry)
        except MedzooError as error:
            return told(error)
        return show("app_message.html.j2", message=f"{'Planning' if dry else 'Started'}: job {int(job.id)}.", hint="")

    def again() -> str:
        job = last_to_resume(jobs)
        if job is None:
            return show("app_message.html.j2", message="There is nothing to resume.", hint="")
        try:
            jobs.resume(job.id)
        except MedzooError as error:
            return told(error)
        return show("app_message.html.j2", message=f"Resumed job {int(job.id)}.", hint="")

    given = [generator, strength, data, to, out, seed, select]
    plan.click(lambda *values: begin(True, *values), given, message, **QUIET)
    start.click(lambda *values: begin(False, *values), given, message, **QUIET)
    resume.click(again, None, message, **QUIET)
    live = [
        Live(part=forecast, render=lambda: render_plan(jobs), version=lambda: version_of(jobs.all(PLAN)[-1:])),
        Live(
            part=filled,
            render=lambda: render_jobs(root, jobs),
            version=lambda: tuple((job.id, job.state) for job in jobs.all(AUGMENT)[-_SHOWN:]),
        ),
    ]
    return live, [Listing(part=generator, of=GENERATORS), Listing(part=data, of=FOLDERS)]


def render_plan(jobs: Jobs) -> str:
    """Return the last plan."""
    found = jobs.all(PLAN)
    job = found[-1] if found else None
    return show("app_plan.html.j2", job=job, plan=planned(job) if job is not None else None)


def render_jobs(root: Path, jobs: Jobs) -> str:
    """Return the last augmentations, the newest first, each with its contact sheet."""
    shown = []
    for job in reversed(jobs.all(AUGMENT)[-_SHOWN:]):
        sheet = contact_sheet(root, job)
        picture = None
        if sheet is not None:
            alt = f"Contact sheet of synthetic images in {job.about['request']['out']}"
            picture = png_image(sheet.read_bytes(), alt=alt, width=probe(sheet).width)
        shown.append((job, picture))
    return show("app_augments.html.j2", jobs=shown)
