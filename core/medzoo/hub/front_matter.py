"""The YAML front matter of a model card: write that of a new card, or complete an existing one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard

Notes = Mapping[str, Mapping[str, Any]]

LIBRARY = "medzoo"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A pipeline tag of the Hub, and the tags by which such models are found."""

    name: str
    tags: tuple[str, ...]


GENERATION = Task(
    name="unconditional-image-generation", tags=("medical-imaging", "data-augmentation", "synthetic-data")
)
CLASSIFICATION = Task(name="image-classification", tags=("medical-imaging", "data-augmentation"))


def front_matter(
    task: Task, *, model: str, plugin: str, license: str, modality: str, dataset: str, notes: Notes
) -> str:
    """Format the front matter of a new card as YAML, with a model-index if training measured anything."""
    from huggingface_hub import ModelCardData

    measured = results(task, notes, dataset=dataset)
    return ModelCardData(
        license=license,
        library_name=LIBRARY,
        pipeline_tag=task.name,
        tags=[*task.tags, plugin, modality],
        datasets=[dataset],
        model_name=model if measured else None,
        eval_results=measured or None,
    ).to_yaml()


def complete_card(text: str, task: Task, *, model: str, plugin: str, dataset: str, notes: Notes) -> str:
    """Add the library, task, tags, data set and results that a card's front matter lacks; never a license.

    A text without front matter is returned as it is.

    Raises:
        ValueError: the front matter is invalid.
    """
    if not text.startswith("---\n"):
        return text
    card = parse_card(text)
    data = card.data
    lacking: dict[str, Any] = {
        "library_name": data.get("library_name") or LIBRARY,
        "pipeline_tag": data.get("pipeline_tag") or task.name,
        "tags": list(dict.fromkeys([*(data.get("tags") or []), *task.tags, plugin])),
        "datasets": data.get("datasets") or [dataset],
    }
    if not data.get("eval_results") and (measured := results(task, notes, dataset=dataset)):
        lacking |= {"model_name": model, "eval_results": measured}
    changed = {key: value for key, value in lacking.items() if data.get(key) != value}
    for key, value in changed.items():
        setattr(data, key, value)
    return str(card) if changed else text


def parse_card(text: str) -> ModelCard:
    """Parse a card. Raises: ValueError if its front matter is not a YAML mapping, or has an invalid model-index."""
    import yaml  # type: ignore[import-untyped] # comes with huggingface_hub, and without types
    from huggingface_hub import ModelCard

    try:
        return ModelCard(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {str(error).splitlines()[0]}") from None


def results(task: Task, notes: Notes, *, dataset: str) -> list[EvalResult]:
    """List what training measured: the numbers of each note that states on how many `images`.

    A number without a sample size is not a result; it is shown in the table of the card alone.
    """
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=task.name,
            dataset_type=dataset,
            dataset_name=dataset,
            metric_type=name,
            metric_name=f"{topic} {name}, {facts['images']} {facts.get('of', 'images')}",
            metric_value=value,
        )
        for topic, facts in notes.items()
        if "images" in facts
        for name, value in facts.items()
        if name != "images" and is_number(value)
    ]


def is_number(value: Any) -> bool:
    """Return whether a value is a number; True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)
