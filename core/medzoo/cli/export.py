"""`medzoo export`: a generator for use without medzoo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medzoo.cli.options import GeneratorName, Overrides, Source, parse_overrides
from medzoo.cli.output import Json, print_json, print_text


def export(
    gen: GeneratorName,
    format: Annotated[
        str, typer.Option(metavar="diffusers|onnx|torch", help="What to write; onnx needs 'medzoo[onnx]'.")
    ] = "diffusers",
    out: Annotated[Path | None, typer.Option(help="New folder for it.  [default: GEN-FORMAT]")] = None,
    overrides: Overrides = None,
    source: Source = None,
    as_json: Json = False,
) -> None:
    """Export a generator to diffusers, ONNX, or torch."""
    import medzoo

    result = medzoo.export(
        gen,
        format=format,  # type: ignore[arg-type]  # the API checks it
        out=out,
        settings=parse_overrides(overrides),
        source=source,
    )
    if as_json:
        print_json({"folder": result.folder, "format": result.format, "files": list(result.files)})
    else:
        print_text(str(result.folder))
