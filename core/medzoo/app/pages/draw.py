"""Draw images from a generator, and look at the last ones beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medzoo.app.draws import DRAW, MAX_IMAGES, DrawRequest, drawn_images, request_of, start_drawing
from medzoo.app.generators import DrawableModel, drawable_models, find_generator
from medzoo.app.guard import MAX_UPLOAD, UPLOAD
from medzoo.app.jobs import Jobs
from medzoo.app.pages import FOLDERS, GENERATORS, QUIET, Listing, Live, no_generator, part, show, told, version_of
from medzoo.app.paths import list_folders
from medzoo.errors import MedzooError

_SHOWN = 6
_NOTHING = "none"
_FROM_NOISE = 1.0


def page(root: Path, jobs: Jobs) -> tuple[list[Live], list[Listing]]:
    """Lay out the page; return the part that follows the jobs, and the lists of what is in the folder."""
    import gradio as gr

    models = drawable_models(root)
    if not models:
        no_generator()
        return [], []
    first = next(iter(models.values()))
    with gr.Row(elem_classes="sides-row", equal_height=True):
        with gr.Column(scale=1, min_width=300):
            generator = gr.Dropdown(list(models), value=first.name, label="Generator", elem_id="generator")
            labels = gr.CheckboxGroup(
                list(first.classes), value=[first.classes[0]], label="Classes", info=_about(first), elem_id="labels"
            )
            number = gr.Slider(1, MAX_IMAGES, value=4, step=1, label="Images of each class", elem_id="number")
            seed = gr.Number(0, precision=0, label="Seed", info="The same seed gives the same images.", elem_id="seed")
            steps = gr.Number(label="Steps", precision=0, minimum=1, maximum=1000, elem_id="steps", **_steps(first))
            guidance = gr.Number(label="Guidance scale", minimum=0, elem_id="guidance", **_guidance(first))
            with gr.Column(visible=first.varies_images or first.needs_images) as varying:
                upload = part(
                    "",
                    html_template=show("app_upload.html.j2"),
                    js_on_load=_SEND.replace("UPLOAD", UPLOAD).replace("LIMIT", str(MAX_UPLOAD)),
                    elem_id="upload",
                )
                strength = gr.Slider(
                    0.05,
                    _FROM_NOISE,
                    value=_FROM_NOISE,
                    step=0.05,
                    label="Strength",
                    info="1 draws from noise; below, images vary the real image, the less the lower.",
                    visible=first.varies_images,
                    elem_id="strength",
                )
            compare = gr.Dropdown(
                [_NOTHING, *list_folders(root)],
                value=_NOTHING,
                label="Nearest real image from",
                info="A folder of images, as those that the model was trained on.",
                elem_id="compare",
            )
            draw = gr.Button("Draw", variant="primary", elem_id="draw")
            message = part("", elem_id="draw-message")
        with gr.Column(scale=3, min_width=300):
            history = part(elem_id="history")

    def choose(name: str) -> list[Any]:
        try:
            model = find_generator(root, name)
        except MedzooError:  # drawing says so
            return [gr.skip()] * 5
        return [
            gr.update(choices=list(model.classes), value=[model.classes[0]], info=_about(model)),
            gr.update(**_steps(model)),
            gr.update(**_guidance(model)),
            gr.update(visible=model.varies_images or model.needs_images),
            gr.update(visible=model.varies_images),
        ]

    def start(
        name: str | None,
        chosen: list[str],
        n: float,
        seed: float | None,
        steps: float | None,
        guidance: float | None,
        image: str,
        strength: float,
        folder: str,
    ) -> str:
        try:
            model = find_generator(root, name)
            varied = model.varies_images and strength < _FROM_NOISE
            request = DrawRequest(
                generator=model.name,
                labels=tuple(label for label in model.classes if label in chosen),
                n=int(n),
                seed=int(seed or 0),
                steps=None if steps is None or model.steps is None or steps == model.steps else int(steps),
                guidance=None if guidance is None or model.guidance is None or guidance == model.guidance else guidance,
                strength=strength if varied else None,
            )
            own = "" if folder in (None, _NOTHING) else folder
            job = start_drawing(jobs, model, request, upload=(image or "").split(" ")[0], compare=own)
        except MedzooError as error:
            return told(error)
        return show("app_message.html.j2", message=f"Drawing number {int(job.id)}.", hint="")

    generator.change(choose, generator, [labels, steps, guidance, varying, strength], **QUIET)
    given = [generator, labels, number, seed, steps, guidance, upload, strength, compare]
    draw.click(start, given, message, **QUIET)
    live = Live(part=history, render=lambda: render(jobs), version=lambda: version_of(jobs.all(DRAW)[-_SHOWN:]))
    return [live], [Listing(part=generator, of=GENERATORS), Listing(part=compare, of=FOLDERS, before=(_NOTHING,))]


def render(jobs: Jobs) -> str:
    """Return the last grids, the newest first."""
    shown = []
    for job in reversed(jobs.all(DRAW)[-_SHOWN:]):
        if (request := request_of(job)) is not None:
            images = drawn_images(job)
            by_label: dict[str, list[Any]] = {}
            for image in images:
                by_label.setdefault(image.label, []).append(image)
            shown.append({"job": job, "request": request, "by_label": by_label})
    return show("app_draws.html.j2", draws=shown)


def _about(model: DrawableModel) -> str:
    if model.needs_images:
        return "It makes images like the real one that you choose below."
    return "All that are chosen show together on each image." if model.multi_label else "Images of each are drawn."


def _steps(model: DrawableModel) -> dict[str, Any]:
    return {
        "value": model.steps,
        "visible": model.steps is not None,
        "info": f"The model's own are {model.steps}.",
    }


def _guidance(model: DrawableModel) -> dict[str, Any]:
    own = "" if model.guidance is None else f"The model's own is {model.guidance:g}."
    return {"value": model.guidance, "visible": model.guidance is not None, "info": own}


# Sends a chosen image; the part's value is the name it is kept under, and its size.
_SEND = """
const status = () => element.querySelector("[role=status]")
element.addEventListener("change", async event => {
  const file = event.target.files && event.target.files[0]
  if (!file) return
  if (file.size > LIMIT) { status().textContent = "This is more than " + LIMIT / 1048576 + " MiB."; return }
  status().textContent = "Sending ..."
  const answer = await fetch("UPLOAD", {method: "POST", body: file})
  const text = await answer.text()
  if (answer.ok) props.value = text
  else status().textContent = text
})
"""
