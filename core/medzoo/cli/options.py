"""Options that several verbs share."""

from typing import Annotated

import typer

Seed = Annotated[int, typer.Option(help="The same seed gives the same images.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images drawn at once.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, as in --set sampling.num_inference_steps=50."),
]
Classes = Annotated[str, typer.Option(help="Names for an npz's numbered classes: normal,pneumonia.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Go on without unreadable images, listing them.")]
AllowUpload = Annotated[
    bool, typer.Option("--allow-upload", help="Let real images leave this machine, for generators that ask a service.")
]
Mirror = Annotated[
    str | None, typer.Option("--from", metavar="bundled|hub|DIR", help="Take models from here and nowhere else.")
]
