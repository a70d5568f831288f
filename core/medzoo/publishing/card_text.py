"""What the cards of generators and of classifiers have in common, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medzoo.classification.predict import HELD_OUT
from medzoo.hub.front_matter import CLASSIFICATION, GENERATION, Notes, Task, front_matter
from medzoo.hub.registry import CLASSIFIER, CONFIG, GENERATOR, WEIGHTS
from medzoo.hub.registry_file import to_toml
from medzoo.publishing.about import About

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
