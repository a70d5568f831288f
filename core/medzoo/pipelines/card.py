"""A model card folder from a training run: what is published, and the registry row that names it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medzoo.errors import ConfigError, DataError
from medzoo.files import make_folder, sha256_file, write_atomic
from medzoo.images import write_image
from medzoo.pipelines.drawing import class_sheet
from medzoo.pipelines.front_matter import front_matter
from medzoo.pipelines.model_folder import read_description
from medzoo.pipelines.models import LoadedModel, load_model, save_model
from medzoo.pipelines.registry_file import row_text, toml
from medzoo.plugins import Plugins
from medzoo.provenance import read_run
from medzoo.registry import CONFIG, WEIGHTS
from medzoo.specs import ImageSpec
from medzoo.toolkit.devices import derive_seed

SAMPLES = "samples.png"
SAMPLES_PER_CLASS = 12
SAMPLE_SIDE = 96
README = "README.md"
CARD_FILES = (README, CONFIG, WEIGHTS, SAMPLES)
COUNT_HEAD = "| class | training images |"
SETTING_HEAD = "| setting | value |"
NOTE_HEAD = "| of | what | value |"
DISCLAIMER = (
    "Images made by this model are synthetic. They are for research on data augmentation and not for diagnosis, "
    "treatment or any other clinical decision."
)


@dataclass(frozen=True, kw_only=True)
class About:
    """What no run can know: written by hand in a TOML file, one key a field. `notice` opens the card."""

    id: str
    title: str
    summary: str
    modality: str
    dataset: str
    dataset_text: str
    license: str
    intended_use: str
    limits: str
    train_command: str
    notice: str = ""
    embedded: str = ""
    default: bool = False
    repo: str = ""

    @classmethod
    def read(cls, path: Path) -> About:
        """The facts in a TOML file.

        Raises:
            ConfigError: it cannot be read, or a key is missing, unknown or of the wrong type.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error
        known = {field.name: bool if field.name == "default" else str for field in fields(cls)}
        missing = set(known) - set(values) - {"notice", "embedded", "default", "repo"}
        wrong = [key for key, value in values.items() if not isinstance(value, known.get(key, ()))]
        if missing or wrong:
            problem = f"lacks {', '.join(sorted(missing))}" if missing else f"has wrong or unknown {', '.join(wrong)}"
            raise ConfigError(f"{path} {problem}", f"its keys are {', '.join(known)}")
        return cls(**values)


def write_card(run: Path, out: Path, about: About, *, plugins: Plugins, overrides: tuple[str, ...] = ()) -> str:
    """The registry row (TOML) of the card written to `out`: README.md, config.json, model.safetensors (fp16), samples.

    The samples are drawn from the weights as published. `overrides` change the sampling settings the card ships with.

    Raises:
        DataError: `run` is no finished training run, or `out` holds more than a card.
    """
    _refuse_other_files(out)
    record = read_run(run)
    if record is None or record.get("job") != "train":
        raise DataError(f"{run} is no finished training run", "run its `medzoo train` command again to finish it")
    model = load_model(run, plugins=plugins, device="cpu", overrides=overrides)
    description = read_description(run)
    make_folder(out)
    training = {
        "seconds": record["training_seconds"],
        "hardware": record["hardware"],
        "seed": record["seeds"]["seed"],
        "torch": record["libraries"]["torch"],
    }
    save_model(
        out,
        model.generator,
        spec=model.spec,
        config=model.config,
        data={**description["data"], "name": about.dataset, "embedded": about.embedded},
        dtype=torch.float16,
        facts={
            "id": about.id,
            "medzoo": description["medzoo"],
            "training": training,
            "notes": description.get("notes", {}),
        },
    )
    published = load_model(out, plugins=plugins, device="cpu")
    write_image(out / SAMPLES, samples_sheet(published))
    write_atomic(out / README, card_text(about, published, record).encode())
    return registry_row(about, published, out)


def samples_sheet(model: LoadedModel) -> np.ndarray:
    """A card's picture of samples, uint8 (3, H, W), one row a class."""
    seeds = {name: [derive_seed("card", name, i) for i in range(SAMPLES_PER_CLASS)] for name in model.image.classes}
    return class_sheet(model.image, model.generator.sample, seeds=seeds, side=SAMPLE_SIDE)


def _refuse_other_files(out: Path) -> None:
    """Nothing. Raises: DataError if `out` is a file or holds what is no part of a card, as a run's own folder does."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file", "choose another --out")
    found = sorted(entry.name for entry in out.iterdir()) if out.is_dir() else []
    others = [name for name in found if name not in CARD_FILES and not name.startswith(".")]
    if others:
        raise DataError(f"{out} holds other files than a card's: {others[0]}", "choose another --out")


def card_text(about: About, model: LoadedModel, record: Mapping[str, Any]) -> str:
    """The model card in Markdown, with the Hub's front matter."""
    notes = record.get("notes", {})
    front = front_matter(
        model=about.id,
        plugin=model.spec.name,
        license=about.license,
        modality=about.modality,
        dataset=about.dataset,
        notes=notes,
    )
    counts = "\n".join(count_rows(record["data"]["counts"]))
    settings = "\n".join(setting_rows(model.config.flat()))
    colour = "grey" if model.image.channels == 1 else "colour"
    seconds = record["training_seconds"]
    notice = f"> **{about.notice}**\n\n" if about.notice else ""
    many = "An image may have several labels, or none.\n\n" if model.image.multi_label else ""
    return f"""---
{front}
---

# {about.title}

{notice}{about.summary}

**{DISCLAIMER}**

```
{_commands(about.id, model.image)}
```

![Samples, one row a class]({SAMPLES})

Fixed seeds, drawn from the published weights with the settings below; none picked by hand.

## Model

`{model.spec.name}`: {model.spec.summary}. It makes {colour} images of
{model.image.size}x{model.image.size} pixels, has {parameters(model):,} parameters, and its weights are stored in 16-bit
floating point.

## Training data

{about.dataset_text}

{many}{COUNT_HEAD}
|---|---|
{counts}

`config.json` holds a fingerprint of every training image, so that medzoo can refuse an evaluation on any of them.

## Training

{seconds:,.0f} seconds ({seconds / 60:.0f} minutes) on {record["hardware"]}, with torch {record["libraries"]["torch"]}
and seed {record["seeds"]["seed"]}:

```
{about.train_command.strip()}
```

{SETTING_HEAD}
|---|---|
{settings}
{_measured(notes)}
## Intended use

{about.intended_use}

## Limits

{about.limits}
"""


def _commands(name: str, image: ImageSpec) -> str:
    if image.multi_label:
        labels = " ".join(f"--label {label}" for label in image.classes[:2])
        return f"medzoo sample {name} {labels} --n 8 --grid grid.png"
    return f"medzoo sample {name} --n 8 --grid grid.png\nmedzoo augment --gen {name} --data YOUR_IMAGES --to 500"


def count_rows(counts: Mapping[str, int]) -> list[str]:
    """The card's table of training images, row by row."""
    return [f"| {name} | {count} |" for name, count in counts.items()]


def setting_rows(settings: Mapping[str, Any]) -> list[str]:
    """The card's table of settings, row by row."""
    return [f"| `{key}` | `{toml(value)}` |" for key, value in settings.items()]


def note_rows(notes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The card's table of what the training measured, row by row."""
    return [
        f"| {topic} | {name.replace('_', ' ')} | {f'{value:.4g}' if isinstance(value, float) else value} |"
        for topic, facts in notes.items()
        for name, value in facts.items()
    ]


def _measured(notes: Mapping[str, Mapping[str, Any]]) -> str:
    """What the training measured; nothing where it measured nothing."""
    rows = "\n".join(note_rows(notes))
    return f"\nMeasured by the training run:\n\n{NOTE_HEAD}\n|---|---|---|\n{rows}\n" if rows else ""


def registry_row(about: About, model: LoadedModel, folder: Path) -> str:
    """The row of registry.toml for a card folder."""
    return row_text(row_values(about, model, folder))


def row_values(about: About, model: LoadedModel, folder: Path) -> dict[str, Any]:
    """The values of the row, by key."""
    return {
        "id": about.id,
        "plugin": model.spec.name,
        "summary": about.summary,
        "repo": about.repo,
        "modality": about.modality,
        "dataset": about.dataset,
        "classes": list(model.image.classes),
        "size": model.image.size,
        "channels": model.image.channels,
        "license": about.license,
        "parameters": parameters(model),
        "default": about.default,
        "files": [
            {"name": name, "sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size}
            for name in CARD_FILES
        ],
    }


def parameters(model: LoadedModel) -> int:
    """How many numbers the weights hold."""
    return sum(tensor.numel() for tensor in model.generator.state_dict().values())
