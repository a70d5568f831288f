"""Generate the pages of docs/reference from the code that they document, when the site is built."""

from __future__ import annotations

import shutil
from pathlib import Path

from reference_pages.command_line import command_pages
from reference_pages.hooks import hook_pages
from reference_pages.measures import measure_pages
from reference_pages.models import model_pages, sample_images
from reference_pages.settings import settings_pages
from reference_pages.toolkit import toolkit_pages


def render() -> dict[str, str]:
    """Return the Markdown of every generated page by its path under docs/reference."""
    return {
        **hook_pages(),
        **toolkit_pages(),
        **command_pages(),
        **settings_pages(),
        **measure_pages(),
        **model_pages(),
    }


def write(folder: Path) -> None:
    """Write the generated pages to `folder` and remove other pages; unchanged files keep their modification times."""
    pages = {folder / name: text for name, text in render().items()}
    for path in folder.rglob("*.md"):
        if path not in pages:
            path.unlink()
    for path, text in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Sphinx reads a page again if its modification time has changed.
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
    for name, image in sample_images().items():
        shutil.copyfile(image, folder / name)
