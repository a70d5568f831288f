"""Model cards: the folder that is published of a training run, and the registry row that names it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medzoo.classification.predict import HELD_OUT, HELD_OUT_APART
from medzoo.data.images import write_image
from medzoo.errors import ConfigError, DataError
from medzoo.hub.front_matter import CLASSIFICATION, GENERATION, Notes, Task, front_matter
from medzoo.hub.registry import CLASSIFIER, CONFIG, GENERATOR, WEIGHTS
from medzoo.hub.registry_file import entry_toml, to_toml
from medzoo.models.contact_sheet import class_sheet
from medzoo.models.folder import read_description, save_model
from medzoo.models.loading import LoadedModel, count_parameters, load_model
from medzoo.plugins.lookup import Plugins
from medzoo.protocols import Classifier, Generator
from medzoo.runs.record import TRAINING_JOBS, read_run
from medzoo.seeds import derive_seed
from medzoo.specs import ImageSpec
from medzoo.storage.files import make_folder, sha256_file, write_atomic


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


README = "README.md"
SAMPLES = "samples.png"
COUNT_HEAD = "| class | training images |"
SETTING_HEAD = "| setting | value |"
NOTE_HEAD = "| of | what | value |"
SCORE_HEAD = "| held-out score | value |"
SCORES = "Held-out scores"
_SECTIONS = ("Training data", "Training", "Intended use", "Limits")


@dataclass(frozen=True, kw_only=True)
class Form:
    """What the card folder of a kind of model holds, and what its text must say."""

    files: tuple[str, ...]
    sections: tuple[str, ...]
    disclaimer: str
    task: Task


FORMS: Mapping[str, Form] = {
    GENERATOR: Form(
        files=(README, CONFIG, WEIGHTS, SAMPLES),
        sections=_SECTIONS,
        disclaimer="Images made by this model are synthetic. They are for research on data augmentation and not for "
        "diagnosis, treatment or any other clinical decision.",
        task=GENERATION,
    ),
    CLASSIFIER: Form(
        files=(README, CONFIG, WEIGHTS),
        sections=(*_SECTIONS, SCORES),
        disclaimer="What this model says of an image is for research on data augmentation and for measuring synthetic "
        "images, and not for diagnosis, treatment or any other clinical decision.",
        task=CLASSIFICATION,
    ),
}


def form_of(description: Mapping[str, Any]) -> Form:
    """The form of the kind of model that a config.json describes."""
    return FORMS[description.get("kind", GENERATOR)]


def opening(form: Form, about: About, *, plugin: str, notes: Notes) -> str:
    """A card's front matter, title, summary and disclaimer."""
    front = front_matter(
        form.task,
        model=about.id,
        plugin=plugin,
        license=about.license,
        modality=about.modality,
        dataset=about.dataset,
        notes=notes,
    )
    notice = f"> **{about.notice}**\n\n" if about.notice else ""
    return f"---\n{front}\n---\n\n# {about.title}\n\n{notice}{about.summary}\n\n**{form.disclaimer}**\n"


def training(about: About, record: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """A card's section on the training: how long and where, the command, and every setting."""
    seconds = record["training_seconds"]
    rows = "\n".join(setting_rows(settings))
    return f"""## Training

{seconds:,.0f} seconds ({seconds / 60:.0f} minutes) on {record["hardware"]}, with torch {record["libraries"]["torch"]}
and seed {record["seeds"]["seed"]}:

```
{about.train_command.strip()}
```

{SETTING_HEAD}
|---|---|
{rows}
"""


def published_facts(about: About, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the config.json of a published model says beside what every model's does."""
    return {
        "id": about.id,
        "medzoo": record["medzoo"],
        "training": {
            "seconds": record["training_seconds"],
            "hardware": record["hardware"],
            "seed": record["seeds"]["seed"],
            "torch": record["libraries"]["torch"],
        },
        "notes": record.get("notes", {}),
    }


def count_table(counts: Mapping[str, int]) -> str:
    """The card's table of training images."""
    return "\n".join([COUNT_HEAD, "|---|---|", *count_rows(counts)])


def count_rows(counts: Mapping[str, int]) -> list[str]:
    """The card's table of training images, row by row."""
    return [f"| {name} | {count} |" for name, count in counts.items()]


def setting_rows(settings: Mapping[str, Any]) -> list[str]:
    """The card's table of settings, row by row."""
    return [f"| `{key}` | `{to_toml(value)}` |" for key, value in settings.items()]


def note_rows(notes: Notes) -> list[str]:
    """The card's table of what the training measured, row by row; held-out scores have one of their own."""
    return [
        f"| {topic} | {name.replace('_', ' ')} | {_figure(value)} |"
        for topic, facts in notes.items()
        if not topic.startswith(HELD_OUT)
        for name, value in facts.items()
    ]


def score_rows(notes: Notes, topic: str) -> list[str]:
    """The card's table of the scores noted under `topic`, row by row; a class's with its number of images."""
    support = {f"recall {name}": count for name, count in notes.get(f"{topic}_by_class", {}).items()}
    return [
        f"| {name.replace('_', ' ')}{f', {support[name]} images' if name in support else ''} | {_figure(value)} |"
        for name, value in notes.get(topic, {}).items()
        if name != "of"
    ]


def measured(notes: Notes) -> str:
    """What the training measured; nothing where it measured nothing."""
    rows = "\n".join(note_rows(notes))
    return f"\nMeasured by the training run:\n\n{NOTE_HEAD}\n|---|---|---|\n{rows}\n" if rows else ""


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_classifier_card(
    run: Path,
    out: Path,
    about: About,
    record: Mapping[str, Any],
    *,
    plugins: Plugins,
    overrides: Mapping[str, Any] | None,
) -> LoadedModel[Classifier]:
    """The classifier as published, once `out` holds its card. `overrides` change the settings of prediction.

    Raises:
        DataError: nobody has noted its scores on held-out images.
    """
    if HELD_OUT not in record.get("notes", {}):
        raise DataError(
            f"{run} has no held-out scores, which its card must state",
            f"medzoo classify test {run} --data DIR --record",
        )
    model = load_model(run, kind=CLASSIFIER, plugins=plugins, device="cpu", overrides=overrides)
    description = read_description(run)
    save_model(
        out,
        model.model,
        spec=model.spec,
        config=model.config,
        data={**description["data"], "name": about.dataset},
        dtype=torch.float16,
        facts=published_facts(about, record),
    )
    published = load_model(out, kind=CLASSIFIER, plugins=plugins, device="cpu")
    text = classifier_text(about, published, record, chosen_by=description["data"]["validation"]["from"])
    write_atomic(out / README, text.encode())
    return published


def classifier_text(about: About, model: LoadedModel[Classifier], record: Mapping[str, Any], *, chosen_by: str) -> str:
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
and tells {_listed(model.image.classes)}. It has {count_parameters(model.model):,} parameters, stored in 16-bit
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


SAMPLES_PER_CLASS = 12
SAMPLE_SIDE = 96


def write_generator_card(
    run: Path,
    out: Path,
    about: About,
    record: Mapping[str, Any],
    *,
    plugins: Plugins,
    overrides: Mapping[str, Any] | None,
) -> LoadedModel[Generator]:
    """The model as published, once `out` holds its card. `overrides` change the sampling settings it ships with."""
    model = load_model(run, plugins=plugins, device="cpu", overrides=overrides)
    data = read_description(run)["data"]
    save_model(
        out,
        model.model,
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


def samples_sheet(model: LoadedModel[Generator]) -> np.ndarray:
    """A card's picture of samples, uint8 (3, H, W), one row a class."""
    seeds = {name: [derive_seed("card", name, i) for i in range(SAMPLES_PER_CLASS)] for name in model.image.classes}
    return class_sheet(model.image, model.model.sample, seeds=seeds, side=SAMPLE_SIDE)


def generator_text(about: About, model: LoadedModel[Generator], record: Mapping[str, Any]) -> str:
    """The model card in Markdown, with the Hub's front matter."""
    notes = record.get("notes", {})
    parameters = count_parameters(model.model)
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


TRAININGS: Mapping[str, str] = {job: kind for kind, job in TRAINING_JOBS.items()}
"""The jobs whose runs get a card, and the kind of model each makes."""


def write_card(
    run: Path, out: Path, about: About, *, plugins: Plugins, overrides: Mapping[str, Any] | None = None
) -> str:
    """The registry row (TOML) of the card written to `out`: README.md, config.json, model.safetensors (fp16), samples.

    The samples are drawn from the weights as published; a classifier's card has none. `overrides` change the settings
    of sampling, or of prediction, that the card ships with.

    Raises:
        DataError: `run` is no finished training run, a classifier's lacks held-out scores, or `out` holds more than a
            card.
    """
    record = read_run(run)
    kind = TRAININGS.get(record.get("job", "")) if record is not None else None
    if record is None or kind is None:
        raise DataError(f"{run} is no finished training run", "run its training command again to finish it")
    _refuse_other_files(out, FORMS[kind].files)
    make_folder(out)
    write = write_classifier_card if kind == CLASSIFIER else write_generator_card
    return registry_row(about, write(run, out, about, record, plugins=plugins, overrides=overrides), out)


def _refuse_other_files(out: Path, files: tuple[str, ...]) -> None:
    """Nothing. Raises: DataError if `out` is a file or holds what is no part of a card, as a run's own folder does."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file", "choose another --out")
    found = sorted(entry.name for entry in out.iterdir()) if out.is_dir() else []
    others = [name for name in found if name not in files and not name.startswith(".")]
    if others:
        raise DataError(f"{out} holds other files than a card's: {others[0]}", "choose another --out")


def load_published(folder: Path, *, plugins: Plugins) -> LoadedModel[Any]:
    """The model of either kind in a card folder. Raises: as `load_model`."""
    if read_description(folder).get("kind", GENERATOR) == CLASSIFIER:
        return load_model(folder, kind=CLASSIFIER, plugins=plugins, device="cpu")
    return load_model(folder, plugins=plugins, device="cpu")


def registry_row(about: About, model: LoadedModel[Any], folder: Path) -> str:
    """The row of registry.toml for a card folder."""
    return entry_toml(row_values(about, model, folder))


def row_values(about: About, model: LoadedModel[Any], folder: Path) -> dict[str, Any]:
    """The values of the row, by key; the kind of a generator goes without saying."""
    return {
        "id": about.id,
        "kind": model.kind if model.kind != GENERATOR else "",
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
            for name in FORMS[model.kind].files
        ],
    }


def parameters(model: LoadedModel[Any]) -> int:
    """How many numbers the weights hold."""
    return count_parameters(model.model)
