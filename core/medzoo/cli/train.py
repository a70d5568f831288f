"""`medzoo train`: train a generator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.options import (
    Classes,
    ConfigFile,
    Data,
    Device,
    LogWith,
    Masks,
    Overrides,
    Preset,
    RunFolder,
    SkipBad,
    names_in,
    parse_overrides,
    takes_reading,
)
from medzoo.cli.output import Json, print_json, print_text
from medzoo.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from medzoo.training.train import TrainResult


@takes_reading
def train(
    generator: Annotated[str, typer.Argument(metavar="PLUGIN", help="Kind of generator; see `medzoo plugin list`.")],
    data: Data,
    out: RunFolder,
    preset: Preset = "default",
    config: ConfigFile = None,
    overrides: Overrides = None,
    classes: Classes = "",
    seed: Annotated[int, typer.Option(help="Random seed of weights, data order and noise.")] = 0,
    device: Device = "auto",
    start: Annotated[
        str | None, typer.Option(metavar="GEN", help="Start from the weights of this model, id or folder.")
    ] = None,
    keep: Annotated[int, typer.Option(min=0, help="Number of newest checkpoints to keep; 0 keeps all.")] = 2,
    unlabeled: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Further images without labels, subfolders included, for models with a null label."
        ),
    ] = None,
    log_with: LogWith = None,
    skip_bad: SkipBad = False,
    masks: Masks = "ignore",
    reading: Mapping[str, str] | None = None,
    as_json: Json = False,
) -> None:
    """Train a generator; the same command resumes it."""
    import medzoo

    with ProgressDisplay(f"{generator} on {data.name}", unit="steps") as progress:
        result = medzoo.train(
            generator,
            kind="generator",
            data=data,
            out=out,
            preset=preset,
            config=config,
            settings=parse_overrides(overrides),
            classes=names_in(classes),
            seed=seed,
            device=device,
            start=start,
            keep=keep,
            log_with=log_with or (),
            unlabeled=unlabeled,
            skip_bad=skip_bad,
            masks=masks,
            reading=reading,
            progress=progress,
        )
    print_run(result, as_json=as_json)


def print_run(result: TrainResult, *, as_json: bool) -> None:
    """Print a training run's folder, or its record, once."""
    import logging

    if not result.is_main_process:
        return
    if result.already_done:
        logging.getLogger(__name__).info("this run was already finished; nothing to do")
    if as_json:
        print_json(result.record)
    else:
        print_text(str(result.folder))
