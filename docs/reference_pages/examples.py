"""Example implementations, for the hooks page, of hooks that no first-party plugin uses."""

from pathlib import Path
from typing import Annotated

import typer

from medzoo import hookimpl


@hookimpl
def register_registries() -> list[Path]:
    """Add the models listed in registry.toml in this package."""
    return [Path(__file__).with_name("registry.toml")]


@hookimpl
def register_commands(app: typer.Typer) -> None:
    """Add `medzoo count`."""

    @app.command()
    def count(folder: Annotated[Path, typer.Argument(help="Class folders.")]) -> None:
        """Count the images of each class."""
        for path in sorted(folder.iterdir()):
            typer.echo(f"{path.name} {len(list(path.iterdir()))}")
