"""`medzoo experiment compare`: what several experiments found of the same arms, side by side."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.output import Json, print_json, print_table, print_text

if TYPE_CHECKING:
    from medzoo.report.experiment.compare import Side, SideBySide

logger = logging.getLogger(__name__)


Folders = Annotated[list[Path], typer.Argument(metavar="FOLDER FOLDER...", help="The results of two runs or more.")]
Out = Annotated[Path | None, typer.Option(help="Folder for compare.html and compare.csv.")]


def compare(folders: Folders, out: Out = None, as_json: Json = False) -> None:
    """Show experiments side by side, with differences where data, test images and steps are the same."""
    from medzoo.experiment.results import load_results
    from medzoo.report.experiment.compare import side_by_side, write_comparison

    found = side_by_side([load_results(folder) for folder in folders])
    written = write_comparison(found, out) if out is not None else []
    for name, why in found.apart.items():
        if why:
            logger.warning(f"{name} cannot be compared with {next(iter(found.experiments))}: it has {why}")
    if as_json:
        print_json(found.to_dict())
    else:
        _show(found)
        for path in written[:1]:
            print_text(str(path))


def _show(found: SideBySide) -> None:
    first, *others = found.experiments
    columns = ["classifier", "arm", first]
    for name in others:
        columns += [name] if found.apart[name] else [name, "difference"]
    rows = []
    for line in found.lines:
        row = [line.classifier, line.arm, _mean(line.sides[0])]
        for name, side in zip(others, line.sides[1:], strict=True):
            row += [_mean(side)] if found.apart[name] else [_mean(side), _difference(side)]
        rows.append(row)
    print_table(columns, rows, right=columns[2:])


def _mean(side: Side) -> str:
    """The mean, and of how many values where some are lacking."""
    if side.cell is None:
        return ""
    estimate = side.cell.estimate
    if not estimate.n:
        return side.cell.lost or "not defined"
    return f"{estimate.mean:.3f}" + (f" ({side.cell.counts})" if estimate.partial else "")


def _difference(side: Side) -> str:
    difference = side.difference
    return side.reason if difference is None or not difference.n else f"{difference.mean:+.3f}"
