"""The card of a classifier: its weights, its text, and what it scored on images it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from medzoo.classification.predict import HELD_OUT, HELD_OUT_APART
from medzoo.errors import DataError
from medzoo.hub.front_matter import Notes
from medzoo.hub.registry import CLASSIFIER
from medzoo.models.classifiers import LoadedClassifier, load_classifier_folder, save_classifier
from medzoo.models.folder import number_of_weights, read_description
from medzoo.plugins.lookup import Plugins
from medzoo.publishing.about import About
from medzoo.publishing.card_text import (
    FORMS,
    README,
    SCORE_HEAD,
    SCORES,
    count_table,
    measured,
    opening,
    published_facts,
    score_rows,
    training,
)
from medzoo.storage.files import write_atomic


def write_classifier_card(
    run: Path, out: Path, about: About, record: Mapping[str, Any], *, plugins: Plugins, overrides: tuple[str, ...]
) -> LoadedClassifier:
    """The classifier as published, once `out` holds its card. `overrides` change the settings of prediction.

    Raises:
        DataError: nobody has noted its scores on held-out images.
    """
    if HELD_OUT not in record.get("notes", {}):
        raise DataError(
            f"{run} has no held-out scores, which its card must state",
            f"medzoo classify test {run} --data DIR --record",
        )
    model = load_classifier_folder(run, plugins=plugins, device="cpu", overrides=overrides)
    description = read_description(run)
    save_classifier(
        out,
        model.classifier,
        spec=model.spec,
        config=model.config,
        data={**description["data"], "name": about.dataset},
        dtype=torch.float16,
        facts=published_facts(about, record),
    )
    published = load_classifier_folder(out, plugins=plugins, device="cpu")
    text = classifier_text(about, published, record, chosen_by=description["data"]["validation"]["from"])
    write_atomic(out / README, text.encode())
    return published


def classifier_text(about: About, model: LoadedClassifier, record: Mapping[str, Any], *, chosen_by: str) -> str:
    """The model card in Markdown, with the Hub's front matter."""
    notes = record["notes"]
    colour = "grey" if model.image.channels == 1 else "colour"
    many = "An image may have several labels, or none.\n\n" if model.image.multi_label else ""
    return f"""{opening(FORMS[CLASSIFIER], about, plugin=model.spec.name, notes=notes)}
```
medzoo classify predict {about.id} --data YOUR_IMAGES --out predictions.csv
medzoo evaluate --real YOUR_IMAGES --fake SYNTHETIC --metric fid@{about.id}
```

## Model

`{model.spec.name}`: {model.spec.summary}. It reads {colour} images of {model.image.size}x{model.image.size} pixels
and tells {_listed(model.image.classes)}. It has {number_of_weights(model.classifier):,} parameters, stored in 16-bit
floating point.

## Training data

{about.dataset_text}

{many}{count_table(record["data"]["counts"])}

Weights were chosen by other images: {chosen_by}.

`config.json` holds a fingerprint of every image the weights were fitted to or chosen by, so that medzoo can refuse a
test on any of them.

{training(about, record, model.config.flat())}{measured(notes)}
{_scores(notes)}
## Intended use

{about.intended_use}

## Limits

{about.limits}
"""


def _listed(classes: tuple[str, ...]) -> str:
    *others, last = classes
    return f"{', '.join(others)} and {last}" if others else last


def _scores(notes: Notes) -> str:
    """The section of held-out scores, a table for each set of test images."""
    parts = [f"## {SCORES}\n"]
    for topic in (HELD_OUT, HELD_OUT_APART):
        if topic in notes:
            table = "\n".join([SCORE_HEAD, "|---|---|", *score_rows(notes, topic)])
            parts.append(f"On {notes[topic]['of']}; balanced accuracy, F1 and AUC are means over classes:\n\n{table}\n")
    return "\n".join(parts)
