"""Options that several verbs share."""

import tomllib
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from medzoo.errors import ConfigError

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


def parse_overrides(texts: Iterable[str] | None) -> dict[str, Any]:
    """Return the dotted keys and values of `--set key=value`: a value is TOML, or else a bare word, which is text.

    Raises:
        ConfigError: a text without a key and "=".
    """
    values: dict[str, Any] = {}
    for text in texts or ():
        key, separator, value = (part.strip() for part in text.partition("="))
        if not separator or not key:
            raise ConfigError(f"--set cannot take '{text}'", "write --set key=value, as in --set image.size=64")
        try:
            values[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            values[key] = value  # quoting a word for the shell and for TOML would be one quote too many
    return values
