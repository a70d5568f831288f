"""What was kept of the pools from which arms selected their images."""

from __future__ import annotations

from collections import defaultdict

from medzoo.experiment.results import Experiment

PREFIX = "selection of "
# What each share is a share of.
_SHARES = {"kept": "pool", "near_copies": "pool", "agreed": "pool", "kept_agreed": "kept"}


def selection_shares(experiment: Experiment) -> dict[str, dict[str, dict[str, float]]]:
    """Return, by arm that selects and by class, which share of the pool was kept ("kept"), over all its cells.

    "near_copies" is the share dropped as such; "agreed" and "kept_agreed" are the shares of the pool and of the kept
    images that classifiers of the real ones read as their class. Those that the criteria do not measure are left out.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for arm in experiment.arms:
        sums: dict[str, dict[str, float]] = {name: defaultdict(float) for name in experiment.classes}
        notes = [note for cell in experiment.cells if cell.arm == arm.name for note in cell.notes.items()]
        for values in (values for name, values in notes if name.startswith(PREFIX)):
            for key, value in values.items():
                label, _, name = key.rpartition(": ")
                sums[label][name] += float(value)
        shares = {
            label: {key: counts[key] / counts[of] for key, of in _SHARES.items() if key in counts and counts[of]}
            for label, counts in sums.items()
            if counts.get("pool")
        }
        if shares:
            found[arm.name] = shares
    return found
