"""Check a folder of images: counts, problems, near-duplicates side by side; the report of `medzoo data check`."""

from __future__ import annotations

import shlex
from collections.abc import Hashable
from pathlib import Path
from urllib.parse import quote

from medzoo.app.guard import REPORT
from medzoo.app.jobs import Job, Jobs
from medzoo.app.pages import FOLDERS, QUIET, Listing, Live, part, show, told, version_of
from medzoo.app.paths import as_argument, list_folders, open_data
from medzoo.errors import MedzooError

CHECK = "check"
"""The kind of these jobs."""


def page(root: Path, jobs: Jobs) -> tuple[list[Live], list[Listing]]:
    """Lay out the page; return the part that follows the jobs, and the list of folders."""
    import gradio as gr

    with gr.Row(equal_height=False):
        folder = gr.Dropdown(
            list_folders(root),
            value=None,
            label="Folder of images",
            info="Class folders, or train, val and test folders of them; or write the path of an npz.",
            allow_custom_value=True,
            scale=4,
            min_width=240,
            elem_id="data-folder",
        )
        check = gr.Button("Check", variant="primary", scale=1, min_width=120, elem_id="check")
    message = part(elem_id="check-message")
    shown = part(elem_id="data-report")
    check.click(lambda name: start(root, jobs, name), folder, message, **QUIET)
    live = Live(part=shown, render=lambda: render(root, jobs), version=lambda: _version(jobs))
    return [live], [Listing(part=folder, of=FOLDERS)]


def start(root: Path, jobs: Jobs, name: str | None) -> str:
    """Start the check of a folder, and return what to tell."""
    try:
        path = open_data(root, name or "")
        job = jobs.start(
            CHECK,
            lambda folder: ["data", "check", as_argument(root, path), "--out", f"{folder}/report"],
            about={"folder": name},
        )
    except MedzooError as error:
        return told(error)
    return show("app_message.html.j2", message=f"Checking {name}: job {int(job.id)}.", hint="")


def render(root: Path, jobs: Jobs) -> str:
    """Return the report of the last check."""
    job = _last(jobs)
    address = ""
    if job is not None and (page := job.folder / "report" / "report.html").is_file():
        address = REPORT + quote(page.relative_to(root).as_posix())
    line = "" if job is None else shlex.join(["medzoo", *job.command[:3], "--out", "report"])
    return show("app_check.html.j2", job=job, address=address, line=line)


def _last(jobs: Jobs) -> Job | None:
    found = jobs.all(CHECK)
    return found[-1] if found else None


def _version(jobs: Jobs) -> Hashable:
    return version_of(jobs.all(CHECK)[-1:])
