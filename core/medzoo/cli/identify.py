"""`medzoo identify`: tell synthetic images by the marks inside their files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from medzoo.cli.output import Json, print_json, print_table
from medzoo.errors import DataError

logger = logging.getLogger(__name__)

Paths = Annotated[list[Path], typer.Argument(metavar="FILE|DIR...", help="Image files, or folders of them.")]


def identify(paths: Paths, as_json: Json = False) -> None:
    """Tell synthetic images by the marks inside their files."""
    import medzoo
    from medzoo.data.identify import NO_MARK

    found = medzoo.identify(*paths)
    if as_json:
        print_json([each.to_dict() for each in found])
    else:
        print_table(("file", "verdict", "by"), [(str(each.path), each.verdict, each.describe()) for each in found])
    counts = [f"{sum(each.verdict == verdict for each in found)} {verdict}" for verdict in ("synthetic", "altered")]
    unmarked, unreadable = (sum(each.verdict == verdict for each in found) for verdict in ("no mark", "unreadable"))
    logger.info(
        f"{len(found)} {'image' if len(found) == 1 else 'images'}: {', '.join(counts)}, {unmarked} without mark"
    )
    if unmarked:
        logger.info(NO_MARK)
    if unreadable:
        many = f"{unreadable} files" if unreadable > 1 else "1 file"
        raise DataError(f"{many} could not be read as images", "the table says which and why")
