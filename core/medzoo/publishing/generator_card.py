"""The card of a generator: its weights, its text, and samples drawn from the weights as published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medzoo.data.images import write_image
from medzoo.hub.registry import GENERATOR
from medzoo.models.contact_sheet import class_sheet
from medzoo.models.folder import number_of_weights, read_description
from medzoo.models.generators import LoadedModel, load_model, save_model
from medzoo.plugins.lookup import Plugins
from medzoo.publishing.about import About
from medzoo.publishing.card_text import (
    FORMS,
    README,
    SAMPLES,
    count_table,
    measured,
    opening,
    published_facts,
    training,
)
from medzoo.seeds import derive_seed
from medzoo.specs import ImageSpec
from medzoo.storage.files import write_atomic

SAMPLES_PER_CLASS = 12
SAMPLE_SIDE = 96


def write_generator_card(
    run: Path, out: Path, about: About, record: Mapping[str, Any], *, plugins: Plugins, overrides: tuple[str, ...]
) -> LoadedModel:
    """The model as published, once `out` holds its card. `overrides` change the sampling settings it ships with."""
    model = load_model(run, plugins=plugins, device="cpu", overrides=overrides)
    data = read_description(run)["data"]
    save_model(
        out,
        model.generator,
        spec=model.spec,
        config=model.config,
        data={**data, "name": about.dataset, "embedded": about.embedded},
        dtype=torch.float16,
        facts=published_facts(about, record),
    )
    published = load_model(out, plugins=plugins, device="cpu")
    write_image(out / SAMPLES, samples_sheet(published))
    write_atomic(out / README, generator_text(about, published, record).encode())
    return published


def samples_sheet(model: LoadedModel) -> np.ndarray:
    """A card's picture of samples, uint8 (3, H, W), one row a class."""
    seeds = {name: [derive_seed("card", name, i) for i in range(SAMPLES_PER_CLASS)] for name in model.image.classes}
    return class_sheet(model.image, model.generator.sample, seeds=seeds, side=SAMPLE_SIDE)


def generator_text(about: About, model: LoadedModel, record: Mapping[str, Any]) -> str:
    """The model card in Markdown, with the Hub's front matter."""
    notes = record.get("notes", {})
    parameters = number_of_weights(model.generator)
    colour = "grey" if model.image.channels == 1 else "colour"
    many = "An image may have several labels, or none.\n\n" if model.image.multi_label else ""
    return f"""{opening(FORMS[GENERATOR], about, plugin=model.spec.name, notes=notes)}
```
{_commands(about.id, model.image)}
```

![Samples, one row a class]({SAMPLES})

Fixed seeds, drawn from the published weights with the settings below; none picked by hand.

## Model

`{model.spec.name}`: {model.spec.summary}. It makes {colour} images of
{model.image.size}x{model.image.size} pixels, has {parameters:,} parameters, and its weights are stored in 16-bit
floating point.

## Training data

{about.dataset_text}

{many}{count_table(record["data"]["counts"])}

`config.json` holds a fingerprint of every training image, so that medzoo can refuse an evaluation on any of them.

{training(about, record, model.config.flat())}{measured(notes)}
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
