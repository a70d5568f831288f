"""The text of an experiment's report: what was run, and what failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medzoo.experiment.config import CLASSIC, DUPLICATE, Arm
from medzoo.experiment.results import CellResult, Experiment
from medzoo.generation.selection import needs_features
from medzoo.report.experiment.tables import finished
from medzoo.report.formatting import join_words, pluralize


def describe_run(experiment: Experiment) -> list[str]:
    """Describe what was run, a sentence each."""
    return [*_describe_data(experiment), *_describe_training(experiment), *_describe_models(experiment)]


def _describe_data(experiment: Experiment) -> Iterator[str]:
    data, settings = experiment.provenance["data"], experiment.settings
    counts = ", ".join(f"{name} {count:,}" for name, count in data["counts"].items())
    classes = pluralize(len(experiment.classes), "class", "classes")
    several = "; an image may have several labels" if experiment.multi_label else ""
    yield f"The dataset, {data['path']}, has {pluralize(data['size'], 'image')} in {classes} ({counts}){several}."

    arms, seeds = pluralize(len(experiment.arms), "arm"), pluralize(settings["seeds"], "seed")
    if len(experiment.arms) <= 10:
        arms += f" ({', '.join(arm.name for arm in experiment.arms)})"
    how = f"with {seeds}" + (" each" if settings["seeds"] > 1 else "")
    if not experiment.held_out:
        once = "once" if settings["seeds"] == 1 else f"with {seeds}"
        repeats = f", repeated {settings['repeats']} times" if settings["repeats"] > 1 else ""
        how = f"{once} per fold of a {settings['folds']}-fold cross-validation{repeats}"
    yield f"{_were(experiment.classifiers)} trained on {arms}, {how}."

    parts = data["parts"]
    train, val, test = (_range([part[name] for part in parts]) for name in ("train", "val", "test"))
    sizes = f"{train} real images for training, {val} for validation (to select weights) and {test} for testing"
    tested = sum(part["test"] for part in parts) / settings["repeats"]
    every = "; every image is in the test set of one fold" if tested == data["size"] else ""
    yield f"The fixed split has {sizes}." if experiment.held_out else f"Each fold has {sizes}{every}."
    for name, fact in data.get("external", {}).items():
        count = pluralize(sum(fact["counts"].values()), "image")
        yield f"Every classifier was also tested on the external test set {name} ({count} of {fact['path']})."


def _describe_training(experiment: Experiment) -> Iterator[str]:
    planned = {
        name: [cell.steps for cell in experiment.cells if cell.classifier == name] for name in experiment.classifiers
    }
    if steps := [f"{name} {_range(counts)}" for name, counts in planned.items() if any(counts)]:
        yield f"The number of optimizer steps was the same in all arms: {', '.join(steps)}."
        yield "An epoch is equally long in all arms; those with fewer distinct images repeat them."
    if converged := [name for name, counts in planned.items() if not any(counts)]:
        yield f"{_were(converged)} trained to {'its' if len(converged) == 1 else 'their'} optimum in all arms."
    done = finished(experiment.cells)
    if stopped := sum(cell.steps_done < cell.steps for cell in done):
        yield f"{stopped} of {pluralize(len(done), 'training')} stopped early, as configured."
    if any(arm.select != "none" for arm in experiment.arms):
        drawn = f"{experiment.settings['use.pool']:g} images for each one kept"
        by = f" by features of {experiment.settings['use.extractor']}"
        features = by * any(needs_features(arm.select.split("+")) for arm in experiment.arms if arm.select != "none")
        yield f"Arms that select drew {drawn}, and compared them with the training images alone{features}."
    if targets := sorted({arm.target for arm in experiment.arms if arm.target}):
        unit = "images in total" if experiment.multi_label else "images per class"
        yield f"Augmented arms have {join_words([f'{target:,}' for target in targets])} {unit}."


def _describe_models(experiment: Experiment) -> Iterator[str]:
    """Describe the generators, and each classifier's initial weights."""
    facts: Mapping[str, Mapping[str, Any]] = experiment.provenance["generators"]
    if trained := [name for name, fact in facts.items() if fact["kind"] == "trained"]:
        where = "the training images only" if experiment.held_out else "each fold's training images only"
        yield f"{_were(trained)} trained on {where}."
    for name, fact in facts.items():
        if fact["kind"] == "published":
            weights = f"weights {fact['weights_sha256'][:12]}"
            yield f"{name} is a published model ({weights}), not trained here{_lineage(experiment, name)}."
        elif fact["kind"] == "folder":
            count = pluralize(sum(fact["counts"].values()), "ready-made image")
            yield f"{name} is a folder of {count}; their lineage: {fact['lineage']}."
        elif fact["kind"] != "trained" and name not in (DUPLICATE, CLASSIC):
            yield f"{name} has no parameters to train."
    # A second stage starts from the weights of the first.
    staged = {arm.name for arm in experiment.arms if arm.stage != "together" and arm.real_fraction}
    by_source: dict[str, list[str]] = {}
    for name in experiment.classifiers:
        sources = dict.fromkeys(
            str(cell.notes["weights"]["source"])
            for cell in experiment.cells
            if cell.classifier == name and cell.arm not in staged and "source" in cell.notes.get("weights", {})
        )
        by_source.setdefault(join_words(list(sources)), []).append(name)
    yield from (f"{join_words(names)} started from {source}." for source, names in by_source.items() if source)
    for name in experiment.classifiers:
        hashes = {
            str(cell.notes["features"]["weights_sha256"])[:12]
            for cell in experiment.cells
            if cell.classifier == name and "features" in cell.notes
        }
        if hashes:
            yield f"{name} saw features of a frozen network (weights {join_words(sorted(hashes))})."


def _lineage(experiment: Experiment, name: str) -> str:
    """Say whether a published generator was trained on test images; "" while no cell has recorded it."""
    notes = [cell.notes[key] for cell in experiment.cells if (key := f"lineage of {name}") in cell.notes]
    if not notes:
        return ""
    seen = max(int(note["trained on test images"]) for note in notes)
    return f"; {seen or 'none'} of the test images {'was' if seen == 1 else 'were'} among its training images"


def _were(names: Sequence[str]) -> str:
    return f"{join_words(names)} {'was' if len(names) == 1 else 'were'}"


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
        if arm.replace:
            text = (
                f"{real}, each replaced with probability {arm.replace:g} by one of {arm.target:,} {unit} of {mixture}"
            )
        else:
            text = f"{real}, augmented to {arm.target:,} {unit} with {mixture}"
        text += f", selected by {' and '.join(arm.select.split('+'))}" if arm.select != "none" else ""
        text += ", as many images spread evenly over all classes" if arm.classes == "all" else ""
        text += f", {arm.batch_share:.0%} of a batch synthetic" if arm.batch_share else ""
        text += f", synthetic images of loss weight {arm.loss_weight:g}" if arm.loss_weight != 1 else ""
        text += ", then the last layer refitted on balanced real images" if arm.stage == "refit" else ""
    else:
        text = real
    text += ", class-weighted loss" if arm.weighted else ""
    return text + (", geometric augmentation" if arm.geometric else "")


def distinct_images(experiment: Experiment) -> dict[str, str]:
    """Describe how many distinct images each arm was trained on; "" where no cell has scores."""
    found = {}
    for arm in experiment.arms:
        cells = [cell for cell in finished(experiment.cells) if cell.arm == arm.name]
        if not cells:
            found[arm.name] = ""
            continue
        copies = [sum(cell.images.get(DUPLICATE, {}).values()) if arm.mixture else 0 for cell in cells]
        counts = {
            "real": [cell.n_real for cell in cells],
            "synthetic": [cell.n_synthetic - own for cell, own in zip(cells, copies, strict=True)],
        }
        distinct = join_words([f"{_range(own)} {kind}" for kind, own in counts.items() if any(own)])
        found[arm.name] = f"{distinct} distinct images" + (f", {_range(copies)} copies" if any(copies) else "")
    return found


def failures(experiment: Experiment) -> dict[tuple[str, str, str], list[str]]:
    """Group the cells that failed by arm, classifier and error; each group lists their folds and seeds."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for cell in experiment.failed:
        error = cell.error or "no error was recorded"
        groups.setdefault((cell.arm, cell.classifier, error), []).append(describe_place(experiment, cell))
    return groups


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
    parts = ((experiment.failed, "failed"), (experiment.missing, "not run"))
    lost = [f"{len(cells):,} {what}" for cells, what in parts if cells]
    return f"{text}; {join_words(lost)}." if lost else f"{text}."
