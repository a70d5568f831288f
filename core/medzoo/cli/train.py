"""`medzoo train`: fit a generator to a data set."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from medzoo.cli.options import Classes, Device, Overrides, SkipBad, parse_overrides
from medzoo.cli.output import Json, print_json, print_text
from medzoo.cli.progress import TrainingDisplay

logger = logging.getLogger(__name__)


def train(
    generator: Annotated[str, typer.Argument(metavar="PLUGIN", help="Kind of generator, as in `medzoo plugin list`.")],
    data: Annotated[Path, typer.Option(help="Folder of class folders, CSV or npz.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; the same command again goes on there.")],
    preset: Annotated[
        str, typer.Option(help="A preset of the plugin, as `medzoo show PLUGIN` lists them.")
    ] = "default",
    config: Annotated[Path | None, typer.Option(help="TOML file of settings, over the preset.")] = None,
    overrides: Overrides = None,
    classes: Classes = "",
    seed: Annotated[int, typer.Option(help="Seed of weights, order and noise.")] = 0,
    device: Device = "auto",
    start: Annotated[
        str | None, typer.Option(metavar="GEN", help="Start from this model's weights instead of fresh ones.")
    ] = None,
    keep: Annotated[int, typer.Option(min=0, help="Newest checkpoints to keep; 0 keeps all.")] = 2,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log to OUT/tensorboard as well.")] = False,
    skip_bad: SkipBad = False,
    as_json: Json = False,
) -> None:
    """Train a generator; the same command goes on where it stopped."""
    from medzoo import config as settings
    from medzoo.data.dataset import open_dataset
    from medzoo.hub.registry import CLASSIFIER, GENERATOR, check_kind, load_registry
    from medzoo.models.loading import load_by_name
    from medzoo.plugins.lookup import load_plugins
    from medzoo.training.train import train as run

    plugins = load_plugins()
    if generator in plugins.classifiers and generator not in plugins.generators:
        check_kind(generator, CLASSIFIER, expected=GENERATOR, train=True)
    spec = plugins.generator(generator)
    resolved = settings.resolve(
        spec.config, presets=spec.presets, preset=preset, file=config, overrides=parse_overrides(overrides)
    )
    names = [name.strip() for name in classes.split(",")] if classes else None
    dataset = open_dataset(data, skip_bad=skip_bad, classes=names)
    for name, reason in dataset.bad:
        logger.warning(f"left out {name}: {reason}")
    before = None
    if start is not None:
        registry = load_registry(plugins=plugins)
        before = load_by_name(start, image=None, registry=registry, plugins=plugins, device="cpu")
    with TrainingDisplay(f"{generator} on {data.name}") as display:
        result = run(
            spec,
            resolved,
            dataset,
            out,
            plugins=plugins,
            display=display,
            seed=seed,
            device=device,
            keep=keep,
            tensorboard=tensorboard,
            start=before,
        )
    if not result.leads:
        return
    if result.already_done:
        logger.info("this run was finished before; nothing was done")
    if as_json:
        print_json(result.record)
    else:
        print_text(str(result.folder))
