"""A finished training run, its card, and the facts only a person can know, for tests of publishing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from medzoo import config as settings
from medzoo.data.phantom import CLASSES, phantom_dataset
from medzoo.plugins.lookup import load_plugins
from medzoo.publishing.card import About, write_card
from medzoo.training.train import train

ABOUT = About(
    id="tiny-udder",
    title="Tiny",
    summary="Simulated, for tests.",
    modality="ultrasound",
    dataset="phantom",
    dataset_text="Simulated teats.",
    license="apache-2.0",
    intended_use="Tests.",
    limits="- Everything.",
    train_command="medzoo train ddpm --preset tiny --data udder --out runs/tiny",
    demo_dataset="phantom",
)


OVERRIDES = {"training.epochs": 1, "sampling.num_inference_steps": 1}


def make_run(folder: Path) -> Path:
    """A training of one epoch of the tiny `ddpm`, finished; it samples in one step, as checks of a card draw again."""
    plugins = load_plugins()
    spec = plugins.generator("ddpm")
    config = settings.resolve(spec.config, presets=spec.presets, preset="tiny", overrides=OVERRIDES)
    data = phantom_dataset(counts=dict.fromkeys(CLASSES, 2), size=32, seed=0)
    return train(spec, config, data, folder, plugins=plugins, device="cpu").folder


def make_card(run: Path, folder: Path) -> Path:
    """The run's card folder."""
    write_card(run, folder, ABOUT, plugins=load_plugins())
    return folder


def write_about(path: Path, about: About = ABOUT) -> Path:
    """A TOML file with the facts."""
    facts = {name: value for name, value in asdict(about).items() if value not in ("", False)}
    path.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in facts.items()))
    return path


def note(folder: Path, **notes: dict[str, object]) -> None:
    """Nothing; config.json (or run.json) in the folder then has these notes, and the card their table."""
    for name in ("config.json", "run.json"):
        path = folder / name
        if path.exists():
            values = json.loads(path.read_text())
            path.write_text(json.dumps({**values, "notes": {**values.get("notes", {}), **notes}}))
