"""`medzoo pull`: models and assets into the cache."""

from typing import Annotated

import typer

from medzoo.cli.options import Source
from medzoo.cli.output import Json, print_json, print_text
from medzoo.cli.progress import ProgressDisplay


def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="ID...", help="Models, assets, plugins (their default model) or hf:org/name[@revision]."
        ),
    ],
    source: Source = None,
    json: Json = False,
) -> None:
    """Download models and assets into the cache."""
    import medzoo

    with ProgressDisplay("downloading", unit="MB") as progress:
        pulled = medzoo.pull(*names, source=source, progress=progress)
    if json:
        print_json([vars(each) for each in pulled])
    else:
        print_text("\n".join(str(each.path) for each in pulled))
