"""What an experiment's report says in words: what was run, what went wrong, and what may not be concluded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medzoo.experiment.arms import CLASSIC, DUPLICATE, Arm
from medzoo.experiment.results import CellResult, Experiment
from medzoo.experiment.statistics import Estimate
from medzoo.report.experiment.controls import generated
from medzoo.report.experiment.score_tables import done
from medzoo.report.formatting import counted, listed


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Cells of an arm with a classifier that failed with one `error`: `places` are their folds and seeds."""

    arm: str
    classifier: str
    places: tuple[str, ...]
    error: str


def run_told(experiment: Experiment) -> list[str]:
    """What was run, a sentence each."""
    return [
        _data_told(experiment),
        _grid_told(experiment),
        _scheme_told(experiment),
        _equal_told(experiment),
        *_generators_told(experiment),
        *_weights_told(experiment),
    ]


def _data_told(experiment: Experiment) -> str:
    data = experiment.provenance["data"]
    counts = ", ".join(f"{name} {count:,}" for name, count in data["counts"].items())
    labels = ", several of which an image may have" if experiment.multi_label else ""
    classes = counted(len(experiment.classes), "class", "classes")
    return f"The data, {data['path']}, has {counted(data['size'], 'image')} of {classes} ({counts}){labels}."


def _grid_told(experiment: Experiment) -> str:
    arms = counted(len(experiment.arms), "arm")
    if len(experiment.arms) <= 10:
        arms += f" ({', '.join(arm.name for arm in experiment.arms)})"
    return f"{listed(experiment.classifiers)} {_was(experiment.classifiers)} trained on {arms}, {_each(experiment)}."


def _each(experiment: Experiment) -> str:
    settings = experiment.settings
    seeds = counted(settings["seeds"], "seed")
    if experiment.held_out:
        return f"from {seeds} each"
    folds, repeats = settings["folds"], settings["repeats"]
    several = f" ({folds} in each of {repeats} repeats)" if repeats > 1 else ""
    return f"{'once' if settings['seeds'] == 1 else f'from {seeds}'} in each of {folds * repeats} folds{several}"


def _scheme_told(experiment: Experiment) -> str:
    parts = experiment.provenance["data"]["parts"]
    sizes = {name: _range([part[name] for part in parts]) for name in ("train", "val", "test")}
    of = f"{sizes['train']} real images to train on, {sizes['val']} to choose weights by and {sizes['test']} to test on"
    if experiment.held_out:
        return f"There is one test part: {of}."
    tested = sum(part["test"] for part in parts) / experiment.settings["repeats"]
    every = "; every image is in one fold's test part" if tested == experiment.provenance["data"]["size"] else ""
    return f"A fold has {of}{every}."


def _equal_told(experiment: Experiment) -> str:
    steps = [
        f"{name} {_range([cell.steps for cell in experiment.cells if cell.classifier == name])}"
        for name in experiment.classifiers
    ]
    targets = sorted({arm.target for arm in experiment.arms if arm.target})
    unit = "images in all" if experiment.multi_label else "images a class"
    filled = f" Filled arms have {listed([f'{target:,}' for target in targets])} {unit}." if targets else ""
    stopped = [cell for cell in done(experiment.cells) if cell.steps_done < cell.steps]
    early = (
        f" {len(stopped)} of {counted(len(done(experiment.cells)), 'training')} stopped before, as the recipe has it."
        if stopped
        else ""
    )
    return f"Optimiser steps were equal in all arms: {', '.join(steps)}.{early}{filled}"


def _generators_told(experiment: Experiment) -> list[str]:
    facts: Mapping[str, Mapping[str, Any]] = experiment.provenance["generators"]
    trained = [name for name, fact in facts.items() if fact["kind"] == "trained"]
    told = []
    if trained:
        where = "the training part alone" if experiment.held_out else "each fold's training images alone"
        told.append(f"{listed(trained)} {_was(trained)} trained on {where}.")
    for name, fact in facts.items():
        if fact["kind"] == "published":
            weights = f"weights {fact['weights_sha256'][:12]}"
            told.append(f"{name} is published ({weights}) and was not trained here{_lineage(experiment, name)}.")
        elif fact["kind"] == "weightless" and name not in (DUPLICATE, CLASSIC):
            told.append(f"{name} makes its images without weights to train.")
    return told


def _lineage(experiment: Experiment, name: str) -> str:
    """Whether a published generator knew test images; "" while no cell says it."""
    notes = [cell.notes[key] for cell in experiment.cells if (key := f"lineage of {name}") in cell.notes]
    if not notes:
        return ""
    seen = max(int(note["trained on test images"]) for note in notes)
    return f"; it had been trained on {seen} of the test images" if seen else ", nor on any test image"


def _weights_told(experiment: Experiment) -> list[str]:
    """Where each classifier's weights came from; the second stage of pretraining starts from the first's."""
    pretrained = {arm.name for arm in experiment.arms if arm.pretrain and arm.real_fraction}
    sources: dict[str, list[str]] = {}
    for name in experiment.classifiers:
        own = [
            str(cell.notes["weights"]["source"])
            for cell in experiment.cells
            if cell.classifier == name and cell.arm not in pretrained and "source" in cell.notes.get("weights", {})
        ]
        sources.setdefault(listed(list(dict.fromkeys(own))), []).append(name)
    return [f"{listed(names)} started from {source}." for source, names in sources.items() if source]


def _was(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _range(values: Sequence[int]) -> str:
    """ "125", "120 to 125"."""
    least, most = min(values), max(values)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def arm_told(arm: Arm, *, multi_label: bool) -> str:
    """What an arm's classifiers were trained on."""
    real = "real images" if arm.real_fraction == 1 else f"{arm.real_fraction:.0%} of the real images"
    shares = [f"{share:.0%} {name}" if len(arm.mixture) > 1 else name for name, share in arm.mixture.items()]
    if arm.pretrain:
        synthetic = f"{' and '.join(shares)} images"
        told = f"first {synthetic}, then {real}" if arm.real_fraction else f"{synthetic} alone"
    elif shares:
        unit = "in all" if multi_label else "a class"
        told = f"{real}, filled to {arm.target:,} {unit} with {' and '.join(shares)}"
    else:
        told = real
    told += ", loss weighted by class" if arm.weighted else ""
    return told + (", geometric augmentation" if arm.geometric else "")


def failures(experiment: Experiment) -> list[Failure]:
    """Cells that failed, those with one error together."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for cell in experiment.failed:
        found.setdefault((cell.arm, cell.classifier, cell.error), []).append(place(experiment, cell))
    return [
        Failure(arm=arm, classifier=classifier, places=tuple(places), error=error or "no error was recorded")
        for (arm, classifier, error), places in found.items()
    ]


def place(experiment: Experiment, cell: CellResult) -> str:
    """Which fold and seed a cell is of, counted from 1 as folds are; "seed 0" as it was given."""
    if experiment.held_out:
        return f"seed {cell.seed}"
    repeat = f"repeat {cell.repeat + 1}, " if experiment.settings["repeats"] > 1 else ""
    seed = f", seed {cell.seed}" if experiment.settings["seeds"] > 1 else ""
    return f"{repeat}fold {cell.fold + 1}{seed}"


def progress_told(experiment: Experiment) -> str:
    """How many cells have scores, failed, and were not run."""
    told = f"{len(done(experiment.cells)):,} of {counted(len(experiment.cells), 'cell')} have scores"
    lost = [f"{len(cells):,} {what}" for cells, what in _lost(experiment)]
    return f"{told}; {listed(lost)}." if lost else f"{told}."


def _lost(experiment: Experiment) -> Iterable[tuple[Sequence[CellResult], str]]:
    return ((cells, what) for cells, what in ((experiment.failed, "failed"), (experiment.missing, "not run")) if cells)


def roc_told(experiment: Experiment) -> str:
    """What the curves are means of."""
    over = "seeds" if experiment.held_out else "folds"
    if len(experiment.classes) == 2 and not experiment.multi_label:
        of = f"Of {experiment.classes[-1]} against {experiment.classes[0]}, over {over}"
    else:
        of = f"Over {over} and classes, each against the rest"
    return f"{of}: at each false positive rate, the mean true positive rate. In brackets, the mean area."


def limits(experiment: Experiment) -> list[str]:
    """What may not be concluded from this experiment."""
    tested = experiment.metric.replace("_", " ")
    told = [
        f"Tests are of {tested} alone: in the other scores, differences between arms are not tested.",
        "An arm for which no difference is shown is not shown to be equal: see how large one would have to be.",
        f"Arms were compared with {experiment.baseline} and with their controls, not each with each: the highest mean "
        "of many is high by luck too.",
        "The images come from one source. Nothing here speaks for those of another scanner, hospital or population.",
        *_limits_of_intervals(experiment),
    ]
    if experiment.failed or experiment.missing:
        told.append(
            "Means marked as partial leave out failed cells or those not run. If what is hard fails more often, they "
            "are too high."
        )
    told.append("Scores of classifiers on such parts are for research on augmentation, and not for use on patients.")
    return told


def _limits_of_intervals(experiment: Experiment) -> list[str]:
    """What the intervals leave out."""
    held_out = experiment.held_out
    told = []
    if any(_beyond(summary.estimates[experiment.metric]) for summary in experiment.summaries):
        told.append(
            "Intervals that reach below 0 or above 1 are those of the t distribution, which knows no bounds: with so "
            "few values they say little more than that little is known."
        )
    told.append(
        "All seeds share one split: intervals are of training anew, not of other images, and are too narrow for those."
        if held_out
        else "Folds share training images. The correction for that (Nadeau & Bengio 2003) is an approximation, a rough "
        "one where folds are few."
    )
    if experiment.settings["seeds"] > 1 and not held_out:
        told.append("Seeds of one fold were averaged before anything was tested: n counts folds.")
    if generated(experiment) and not experiment.settings["redraw"]:
        told.append(
            "Each generator is one training, drawn from once: neither spread is in the intervals."
            if held_out
            else "Each generator was trained or taken once a fold and drawn from once: how trainings of it differ is "
            "not in the intervals."
        )
    return told


def _beyond(found: Estimate) -> bool:
    return found.low < 0 or found.high > 1
