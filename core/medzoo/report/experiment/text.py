"""The text of an experiment's report: what was run, what failed, and the limitations of the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medzoo.experiment.arms import CLASSIC, DUPLICATE, Arm
from medzoo.experiment.results import CellResult, Experiment
from medzoo.report.experiment.controls import generated
from medzoo.report.experiment.tables import finished
from medzoo.report.formatting import join_words, pluralize


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Cells of an arm with a classifier that failed with the same `error`; `places` are their folds and seeds."""

    arm: str
    classifier: str
    places: tuple[str, ...]
    error: str


def describe_run(experiment: Experiment) -> list[str]:
    """Describe what was run, a sentence each."""
    return [
        _describe_data(experiment),
        _describe_cells(experiment),
        _describe_split(experiment),
        *_describe_training(experiment),
        *_describe_generators(experiment),
        *_describe_weights(experiment),
    ]


def _describe_data(experiment: Experiment) -> str:
    data = experiment.provenance["data"]
    counts = ", ".join(f"{name} {count:,}" for name, count in data["counts"].items())
    classes = pluralize(len(experiment.classes), "class", "classes")
    several = "; an image may have several labels" if experiment.multi_label else ""
    return f"The dataset, {data['path']}, has {pluralize(data['size'], 'image')} in {classes} ({counts}){several}."


def _describe_cells(experiment: Experiment) -> str:
    arms = pluralize(len(experiment.arms), "arm")
    if len(experiment.arms) <= 10:
        arms += f" ({', '.join(arm.name for arm in experiment.arms)})"
    settings = experiment.settings
    seeds = pluralize(settings["seeds"], "seed")
    if experiment.held_out:
        how = f"with {seeds}" + (" each" if settings["seeds"] > 1 else "")
    else:
        once = "once" if settings["seeds"] == 1 else f"with {seeds}"
        repeats = f", repeated {settings['repeats']} times" if settings["repeats"] > 1 else ""
        how = f"{once} per fold of a {settings['folds']}-fold cross-validation{repeats}"
    return f"{join_words(experiment.classifiers)} {_was(experiment.classifiers)} trained on {arms}, {how}."


def _describe_split(experiment: Experiment) -> str:
    parts = experiment.provenance["data"]["parts"]
    train, val, test = (_range([part[name] for part in parts]) for name in ("train", "val", "test"))
    sizes = f"{train} real images for training, {val} for validation (to select weights) and {test} for testing"
    if experiment.held_out:
        return f"The fixed split has {sizes}."
    tested = sum(part["test"] for part in parts) / experiment.settings["repeats"]
    every = "; every image is in the test set of one fold" if tested == experiment.provenance["data"]["size"] else ""
    return f"Each fold has {sizes}{every}."


def _describe_training(experiment: Experiment) -> list[str]:
    steps = [
        f"{name} {_range([cell.steps for cell in experiment.cells if cell.classifier == name])}"
        for name in experiment.classifiers
    ]
    lines = [f"The number of optimizer steps was the same in all arms: {', '.join(steps)}."]
    done = finished(experiment.cells)
    if stopped := sum(cell.steps_done < cell.steps for cell in done):
        lines.append(f"{stopped} of {pluralize(len(done), 'training')} stopped early, as configured.")
    if targets := sorted({arm.target for arm in experiment.arms if arm.target}):
        unit = "images in total" if experiment.multi_label else "images per class"
        lines.append(f"Augmented arms have {join_words([f'{target:,}' for target in targets])} {unit}.")
    return lines


def _describe_generators(experiment: Experiment) -> list[str]:
    facts: Mapping[str, Mapping[str, Any]] = experiment.provenance["generators"]
    trained = [name for name, fact in facts.items() if fact["kind"] == "trained"]
    lines = []
    if trained:
        where = "the training images only" if experiment.held_out else "each fold's training images only"
        lines.append(f"{join_words(trained)} {_was(trained)} trained on {where}.")
    for name, fact in facts.items():
        if fact["kind"] == "published":
            weights = f"weights {fact['weights_sha256'][:12]}"
            lines.append(f"{name} is a published model ({weights}), not trained here{_lineage(experiment, name)}.")
        elif fact["kind"] == "weightless" and name not in (DUPLICATE, CLASSIC):
            lines.append(f"{name} has no parameters to train.")
    return lines


def _lineage(experiment: Experiment, name: str) -> str:
    """Say whether a published generator was trained on test images; "" while no cell has recorded it."""
    notes = [cell.notes[key] for cell in experiment.cells if (key := f"lineage of {name}") in cell.notes]
    if not notes:
        return ""
    seen = max(int(note["trained on test images"]) for note in notes)
    return f"; {seen or 'none'} of the test images {'was' if seen == 1 else 'were'} among its training images"


def _describe_weights(experiment: Experiment) -> list[str]:
    """Describe each classifier's initial weights; fine-tuning after pretraining starts from the pretrained ones."""
    pretrained = {arm.name for arm in experiment.arms if arm.pretrain and arm.real_fraction}
    by_source: dict[str, list[str]] = {}
    for name in experiment.classifiers:
        sources = dict.fromkeys(
            str(cell.notes["weights"]["source"])
            for cell in experiment.cells
            if cell.classifier == name and cell.arm not in pretrained and "source" in cell.notes.get("weights", {})
        )
        by_source.setdefault(join_words(list(sources)), []).append(name)
    return [f"{join_words(names)} started from {source}." for source, names in by_source.items() if source]


def _was(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _range(values: Sequence[int]) -> str:
    """Format "125", or "120 to 125"."""
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def describe_arm(arm: Arm, *, multi_label: bool) -> str:
    """Describe the training images of an arm."""
    real = "real images" if arm.real_fraction == 1 else f"{arm.real_fraction:.0%} of the real images"
    shares = [f"{share:.0%} {name}" if len(arm.mixture) > 1 else name for name, share in arm.mixture.items()]
    mixture = " and ".join(shares)
    if arm.pretrain:
        text = f"pretrained on {mixture} images, then {real}" if arm.real_fraction else f"{mixture} images only"
    elif shares:
        unit = "in total" if multi_label else "per class"
        text = f"{real}, augmented to {arm.target:,} {unit} with {mixture}"
    else:
        text = real
    text += ", class-weighted loss" if arm.weighted else ""
    return text + (", geometric augmentation" if arm.geometric else "")


def failures(experiment: Experiment) -> list[Failure]:
    """Group the cells that failed by error."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for cell in experiment.failed:
        places.setdefault((cell.arm, cell.classifier, cell.error), []).append(describe_place(experiment, cell))
    return [
        Failure(arm=arm, classifier=classifier, places=tuple(own), error=error or "no error was recorded")
        for (arm, classifier, error), own in places.items()
    ]


def describe_place(experiment: Experiment, cell: CellResult) -> str:
    """Name the repeat and fold of a cell, counted from 1, and its seed."""
    if experiment.held_out:
        return f"seed {cell.seed}"
    repeat = f"repeat {cell.repeat + 1}, " if experiment.settings["repeats"] > 1 else ""
    seed = f", seed {cell.seed}" if experiment.settings["seeds"] > 1 else ""
    return f"{repeat}fold {cell.fold + 1}{seed}"


def describe_progress(experiment: Experiment) -> str:
    """Say how many cells have scores, failed, or were not run."""
    text = f"{len(finished(experiment.cells)):,} of {pluralize(len(experiment.cells), 'cell')} have scores"
    lost = [
        f"{len(cells):,} {what}"
        for cells, what in ((experiment.failed, "failed"), (experiment.missing, "not run"))
        if cells
    ]
    return f"{text}; {join_words(lost)}." if lost else f"{text}."


def describe_roc(experiment: Experiment) -> str:
    """Describe what the ROC curves average."""
    over = "seeds" if experiment.held_out else "folds"
    if len(experiment.classes) == 2 and not experiment.multi_label:
        what = f"Curves of {experiment.classes[-1]} vs. {experiment.classes[0]}, averaged over {over}"
    else:
        what = f"One-vs-rest curves, averaged over {over} and classes"
    return f"{what}: the mean true positive rate at each false positive rate. In parentheses, the mean ROC AUC."


def limitations(experiment: Experiment) -> list[str]:
    """List what must not be concluded from this experiment."""
    held_out = experiment.held_out
    estimates = [summary.estimates[experiment.metric] for summary in experiment.summaries]
    lines = [
        f"Differences were tested in {experiment.metric.replace('_', ' ')} only, not in the other scores.",
        "The absence of a significant difference is not evidence of equality: see the smallest difference that each "
        "comparison could have detected.",
        f"Arms were compared with {experiment.baseline} and with their controls, not with each other: the highest of "
        "many means is partly due to chance.",
        "All images come from one source. The results may not generalize to other scanners, hospitals or populations.",
    ]
    if any(estimate.low < 0 or estimate.high > 1 for estimate in estimates):
        lines.append(
            "Intervals that extend below 0 or above 1 come from the t distribution, which is unbounded: with so few "
            "values, they show little more than that the uncertainty is large."
        )
    lines.append(
        "All seeds share one split: intervals reflect the variation between trainings, not between samples of images, "
        "for which they are too narrow."
        if held_out
        else "Folds share training images. The correction for this (Nadeau & Bengio 2003) is approximate, and coarse "
        "with few folds."
    )
    if experiment.settings["seeds"] > 1 and not held_out:
        lines.append("Seeds within a fold were averaged before testing: n counts folds.")
    if generated(experiment) and not experiment.settings["redraw"]:
        lines.append(
            "Each generator was trained once and sampled once: intervals include neither source of variation."
            if held_out
            else "Each generator was trained or loaded once per fold and sampled once: intervals do not include the "
            "variation between its trainings."
        )
    if experiment.failed or experiment.missing:
        lines.append(
            "Means marked as partial exclude cells that failed or were not run. If difficult cells fail more often, "
            "these means are too high."
        )
    return [*lines, "The scores are for research on data augmentation, not for clinical use."]
