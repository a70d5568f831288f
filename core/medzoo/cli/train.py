"""`medzoo train`: fit a generator to a data set."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medzoo.cli.output import Json, notice, print_json, print_text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def train(
    generator: Annotated[str, typer.Argument(metavar="PLUGIN", help="Kind of generator, as in `medzoo plugin list`.")],
    data: Annotated[Path, typer.Option(help="Folder of class folders, CSV or npz.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; the same command again goes on there.")],
    preset: Annotated[str, typer.Option(help="tiny, default or paper.")] = "default",
    config: Annotated[Path | None, typer.Option(help="TOML file of settings, over the preset.")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting.")] = None,
    classes: Annotated[str, typer.Option(help="Names for an npz's numbered classes: normal,pneumonia.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of weights, order and noise.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    keep: Annotated[int, typer.Option(min=1, help="Checkpoints to keep.")] = 2,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Log to OUT/tensorboard as well.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on without unreadable images, listing them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a generator; the same command goes on where it stopped."""
    from medzoo import config as settings
    from medzoo.data import open_dataset
    from medzoo.pipelines.train import train as run
    from medzoo.plugins import load_plugins

    plugins = load_plugins()
    spec = plugins.generator(generator)
    resolved = settings.resolve(
        spec.config, presets=spec.presets, preset=preset, file=config, overrides=overrides or ()
    )
    names = [name.strip() for name in classes.split(",")] if classes else None
    dataset = open_dataset(data, skip_bad=skip_bad, classes=names)
    for name, reason in dataset.bad:
        notice(f"left out {name}: {reason}")
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
        )
    if not display.leads:
        return
    if result.already_done:
        notice("this run was finished before; nothing was done")
    if as_json:
        print_json(result.record)
    else:
        print_text(str(result.folder))


class TrainingDisplay:
    """A live bar on a terminal, else a line every half minute; silent in all but the first of several processes."""

    EVERY = 30.0

    def __init__(self, title: str) -> None:
        self.title = title
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.first = 0
        self.began = self.told = 0.0

    @property
    def leads(self) -> bool:
        """Whether this process is the one that speaks."""
        from accelerate import PartialState

        return bool(PartialState().is_main_process)

    def __enter__(self) -> TrainingDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def start(self, step: int, total: int) -> None:
        """Show the bar at `step` of `total`."""
        self.first, self.began = step, time.monotonic()
        self.told = self.began
        if step:
            notice(f"going on after step {step}")
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4f}  rate {task.fields[rate]:.2e}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task(self.title, total=total, completed=step, loss=float("nan"), rate=0.0)
        self.bar.start()

    def update(self, step: int, total: int, values: Mapping[str, float]) -> None:
        """Show `step` of `total` done, with its losses."""
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=step, loss=values["loss"], rate=values["rate"])
            return
        now = time.monotonic()
        if now - self.told >= self.EVERY or step == total:
            self.told = now
            pace = (step - self.first) / max(now - self.began, 1e-9)
            left = (total - step) / pace / 60
            notice(
                f"{self.title}: step {step}/{total}, loss {values['loss']:.4f}, {pace:.2f} steps/s, {left:.1f} min left"
            )
