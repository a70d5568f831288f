"""Model cards: the folder of a training run that is published, and the registry entry that names its files."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medzoo.classification.predict import HELD_OUT, HELD_OUT_APART
from medzoo.data.images import write_image
from medzoo.data.marks import TRAINED, Mark
from medzoo.data.windows import FILE, PERCENTILE, PERCENTILES, describe_window, parse_window
from medzoo.errors import ConfigError, DataError
from medzoo.hub.entries import README, SAMPLES
from medzoo.hub.front_matter import CLASSIFICATION, GENERATION, Notes, Task, front_matter
from medzoo.hub.registry import CLASSIFIER, CONFIG, GENERATOR, WEIGHTS
from medzoo.hub.registry_file import entry_toml, to_toml
from medzoo.models.folder import FINGERPRINTS, read_description, save_model
from medzoo.models.loading import LoadedModel, class_sheet, count_parameters, load_model
from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.protocols import Generator
from medzoo.runs.record import TRAINING_JOBS, read_run
from medzoo.seeds import derive_seed
from medzoo.storage.files import make_folder, sha256_file, write_atomic


@dataclass(frozen=True, kw_only=True)
class About:
    """Facts about a model that no run knows, written by a person in a TOML file. `notice` opens the card."""

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
    demo_dataset: str = ""
    default: bool = False
    repo: str = ""

    @classmethod
    def read(cls, path: Path) -> About:
        """Read the facts from a TOML file.

        Raises:
            ConfigError: the file cannot be read, or a key is missing, unknown or of the wrong type.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}") from error
        known = {field.name: bool if field.name == "default" else str for field in fields(cls)}
        missing = set(known) - set(values) - {"notice", "demo_dataset", "default", "repo"}
        wrong = [key for key, value in values.items() if not isinstance(value, known.get(key, ()))]
        if missing or wrong:
            problem = f"lacks {', '.join(sorted(missing))}" if missing else f"has wrong or unknown {', '.join(wrong)}"
            renamed = "embedded was renamed to demo_dataset; " if "embedded" in wrong else ""
            raise ConfigError(f"{path} {problem}", f"{renamed}its keys are {', '.join(known)}")
        return cls(**values)


COUNT_HEAD = "| class | training images |"
SETTING_HEAD = "| setting | value |"
NOTE_HEAD = "| of | what | value |"
SCORE_HEAD = "| held-out score | value |"
SAMPLES_PER_CLASS = 12
SAMPLE_SIDE = 96
TRAININGS: Mapping[str, Any] = {job: kind for kind, job in TRAINING_JOBS.items()}
"""The jobs whose runs get a card, and the kind of model each makes."""

_SECTIONS = ("Training data", "Training", "Intended use", "Limits")


@dataclass(frozen=True, kw_only=True)
class Form:
    """What the card folder of a kind of model must hold, and what its text must say."""

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
        sections=(*_SECTIONS, "Held-out scores"),
        disclaimer="Predictions of this model are for research on data augmentation and for evaluating synthetic "
        "images, and not for diagnosis, treatment or any other clinical decision.",
        task=CLASSIFICATION,
    ),
}


def form_of(description: Mapping[str, Any]) -> Form:
    """Return the form of the kind of model that a config.json describes."""
    return FORMS[description.get("kind", GENERATOR)]


def write_card(
    run: str | Path,
    out: str | Path,
    about: str | Path | About,
    *,
    settings: Mapping[str, Any] | None = None,
    plugins: Plugins | None = None,
) -> str:
    """Write the model card of a training run to the folder `out`, and return its registry entry as TOML.

    The card is README.md, config.json, model.safetensors (fp16) and, for a generator, images sampled from the weights
    as published. fingerprints.json beside them is published only if `push` is asked to. `about` is a TOML file with
    what a run cannot know. `settings` changes the settings of sampling, or of prediction, that the card ships with, by
    dotted key.

    Example:
        >>> entry = medzoo.write_card("runs/cnn", "cards/cnn", "cnn.toml")

    Raises:
        DataError: `run` is not a finished training run, a classifier has no held-out scores, or `out` holds other
            files.
        ConfigError: `about` cannot be read, or a key is missing, unknown or of the wrong type.
    """
    run, out, plugins = Path(run), Path(out), plugins or load_plugins()
    about = about if isinstance(about, About) else About.read(Path(about))
    record = read_run(run)
    kind = TRAININGS.get(record.get("job", "")) if record is not None else None
    if record is None or kind is None:
        raise DataError(f"{run} is not a finished training run", "run its training command again to finish it")
    _check_folder(out, FORMS[kind].files)
    if kind == CLASSIFIER and HELD_OUT not in record.get("notes", {}):
        raise DataError(
            f"{run} has no held-out scores, which its card must state",
            f"medzoo classify test {run} --data DIR --record",
        )
    make_folder(out)
    data = read_description(run)["data"]
    facts = {
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
    model = load_model(run, kind=kind, plugins=plugins, device="cpu", overrides=settings)
    if model.strength < 1.0:
        raise ConfigError(
            f"a card shows images sampled from noise, not variations at strength {model.strength}",
            "leave sampling.strength out; whoever uses the model gives it",
        )
    save_model(
        out,
        model.model,
        spec=model.spec,
        config=model.config,
        data={**data, "name": about.dataset, **({} if kind == CLASSIFIER else {"demo_dataset": about.demo_dataset})},
        dtype=torch.float16,
        facts=facts,
    )
    published = load_published(out, plugins=plugins)
    if kind == GENERATOR:
        write_image(out / SAMPLES, samples_sheet(published), Mark(source_type=TRAINED))
    selected_on = data["validation"]["from"] if kind == CLASSIFIER else ""
    write_atomic(out / README, _card_text(about, published, record, selected_on=selected_on).encode())
    return entry_toml(entry_values(about, published, out))


def _check_folder(out: Path, files: tuple[str, ...]) -> None:
    """Raise DataError if `out` is a file or holds other files than a card's, as a run's own folder does."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file", "choose another --out")
    found = sorted(entry.name for entry in out.iterdir()) if out.is_dir() else []
    others = [name for name in found if name not in (*files, FINGERPRINTS) and not name.startswith(".")]
    if others:
        raise DataError(f"{out} holds files that are not part of a card: {others[0]}", "choose another --out")


def load_published(folder: Path, *, plugins: Plugins) -> LoadedModel[Any]:
    """Load the model of either kind from a card folder. Raises: as `load_model`."""
    kind = read_description(folder).get("kind", GENERATOR)
    return load_model(folder, kind=kind, plugins=plugins, device="cpu")


def samples_sheet(model: LoadedModel[Generator]) -> np.ndarray:
    """Sample the images that a card shows, uint8 (3, H, W), one row per class."""
    seeds = {name: [derive_seed("card", name, i) for i in range(SAMPLES_PER_CLASS)] for name in model.image.classes}
    return class_sheet(model.image, model.model.sample, seeds=seeds, side=SAMPLE_SIDE)


def entry_values(about: About, model: LoadedModel[Any], folder: Path) -> dict[str, Any]:
    """Return the values of the registry entry of a card folder, by key; "generator" is the default kind."""
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
        "parameters": count_parameters(model.model),
        "default": about.default,
        "files": [
            {"name": name, "sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size}
            for name in FORMS[model.kind].files
        ],
    }


def count_rows(counts: Mapping[str, int]) -> list[str]:
    """Return the rows of the table of training images."""
    return [f"| {name} | {count} |" for name, count in counts.items()]


def setting_rows(settings: Mapping[str, Any]) -> list[str]:
    """Return the rows of the table of settings."""
    return [f"| `{key}` | `{to_toml(value)}` |" for key, value in settings.items()]


def note_rows(notes: Notes) -> list[str]:
    """Return the rows of the table of what the training measured, without held-out scores."""
    return [
        f"| {topic} | {name.replace('_', ' ')} | {_format(value)} |"
        for topic, facts in notes.items()
        if not topic.startswith(HELD_OUT)
        for name, value in facts.items()
    ]


def score_rows(notes: Notes, topic: str) -> list[str]:
    """Return the rows of the table of scores under `topic`; a class's recall with its number of images."""
    support = {f"recall {name}": count for name, count in notes.get(f"{topic}_by_class", {}).items()}
    return [
        f"| {name.replace('_', ' ')}{f', {support[name]} images' if name in support else ''} | {_format(value)} |"
        for name, value in notes.get(topic, {}).items()
        if name != "of"
    ]


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(head: str, rows: Sequence[str]) -> str:
    return "\n".join([head, "|" + "---|" * (head.count("|") - 1), *rows])


def _card_text(about: About, model: LoadedModel[Any], record: Mapping[str, Any], *, selected_on: str) -> str:
    """Return the model card in Markdown with the Hub's front matter. `selected_on`: classifier validation images."""
    form, image, notes, seconds = FORMS[model.kind], model.image, record.get("notes", {}), record["training_seconds"]
    front = front_matter(
        form.task,
        model=about.id,
        plugin=model.spec.name,
        license=about.license,
        modality=about.modality,
        dataset=about.dataset,
        notes=notes,
    )
    notice = f"> **{about.notice}**\n\n" if about.notice else ""
    images = f"{'gray' if image.channels == 1 else 'color'} images of {image.size}x{image.size} pixels"
    unlabeled = record["data"].get("unlabeled")
    volumes = record["data"].get("summary", {}).get("reading")
    window = f"\n\n{_window_text(model.window)}" if volumes and model.window else ""
    further = f"\n\nIt was also trained on {unlabeled['size']} images without labels." if unlabeled else ""
    many = "An image may have several labels, or none.\n\n" if image.multi_label else ""
    if model.kind == CLASSIFIER:
        commands = (
            f"medzoo classify predict {about.id} --data YOUR_IMAGES --out predictions.csv\n"
            f"medzoo evaluate --real YOUR_IMAGES --fake SYNTHETIC --metric fid@{about.id}"
        )
        samples, does = "", f"It classifies {images} as {_listed(image.classes)}"
        selected = f"Weights were selected on other images: {selected_on}.\n\n"
        use = "the images the weights were fitted to or selected on: without them, medzoo cannot refuse a test on them"
        scores = f"\n## Held-out scores\n\n{_scores(notes)}"
    else:
        labels = " ".join(f"--label {label}" for label in image.classes[:2]) + " " if image.multi_label else ""
        commands = f"medzoo sample {about.id} {labels}--n 8 --grid grid.png"
        if not image.multi_label:
            commands += f"\nmedzoo augment --gen {about.id} --data YOUR_IMAGES --to 500"
        samples = (
            f"\n![Samples, one row per class]({SAMPLES})\n\nFixed seeds, sampled from the published weights with the "
            "settings below; not hand-picked.\n"
        )
        does, selected, scores = f"It generates {images}", "", ""
        use = "the training images: without them, medzoo cannot refuse an evaluation on them"
    rows = note_rows(notes)
    measured = f"\nMeasured by the training run:\n\n{_table(NOTE_HEAD, rows)}\n" if rows else ""
    return f"""---
{front}
---

# {about.title}

{notice}{about.summary}

**{form.disclaimer}**

```
{commands}
```
{samples}
## Model

`{model.spec.name}`: {model.spec.summary}. {does}. It has {count_parameters(model.model):,} parameters, stored in
16-bit floating point.

## Training data

{about.dataset_text}

{many}{_table(COUNT_HEAD, count_rows(record["data"]["counts"]))}{further}{window}

{selected}`{FINGERPRINTS}`, where it is published, holds fingerprints of
{use}.

## Training

{seconds:,.0f} seconds ({seconds / 60:.0f} minutes) on {record["hardware"]}, with torch {record["libraries"]["torch"]}
and seed {record["seeds"]["seed"]}:

```
{about.train_command.strip()}
```

{_table(SETTING_HEAD, setting_rows(model.config.flat()))}
{measured}{scores}
## Intended use

{about.intended_use}

## Limits

{about.limits}
"""


def _window_text(window: str) -> str:
    """Return what a card says of the gray window of the training images."""
    if parse_window(window) == FILE:
        shown = "the gray window that each file states, or percentiles of its values where it states none"
    elif parse_window(window) == PERCENTILE:
        low, high = PERCENTILES
        shown = f"a gray window from percentile {low} to {high} of each image's values"
    else:
        shown = f"the gray window {describe_window(window)} of the files' values, for CT Hounsfield units"
    return (
        f"DICOM or NIfTI files among them were shown through {shown} (`image.window`). Images made elsewhere, as PNG, "
        "should be shown through the same."
    )


def _listed(classes: tuple[str, ...]) -> str:
    *others, last = classes
    return f"{', '.join(others)} or {last}" if others else last


def _scores(notes: Notes) -> str:
    """Return the held-out scores, a table for each set of test images."""
    return "\n".join(
        f"On {notes[topic]['of']}; balanced accuracy, F1 and AUC are means over classes:\n\n"
        f"{_table(SCORE_HEAD, score_rows(notes, topic))}\n"
        for topic in (HELD_OUT, HELD_OUT_APART)
        if topic in notes
    )
