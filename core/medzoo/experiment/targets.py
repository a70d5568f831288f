"""How many synthetic images of which labels an arm adds to the images it is trained on."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.experiment.arms import Arm
from medzoo.generation.shares import exact_shares
from medzoo.models.labels import join_labels


def powerset(data: Dataset) -> Dataset:
    """The data with each set of labels as a class, joined as `plan.join_labels` does; images without any go.

    Data of single labels is returned as it is. Sources are thereby found, and images filled, set by set.
    """
    if not data.multi_label:
        return data
    named = [join_labels([data.classes[k] for k in np.flatnonzero(row)]) for row in data.hot()]
    kept = [index for index, name in enumerate(named) if name]
    classes = tuple(sorted({named[index] for index in kept}))
    chosen = data.subset(kept)
    return Dataset(
        path=data.path,
        classes=classes,
        labels=np.array([classes.index(named[index]) for index in kept], np.int64),
        names=chosen.names,
        files=chosen.files,
        array=chosen.array,
        patients=chosen.patients,
    )


def wanted(data: Dataset, arm: Arm) -> dict[str, int]:
    """How many synthetic images of each label the arm adds to `data`, without labels that get none.

    Each class is filled up to the target; pretraining takes that many of each beside the real ones. With several labels
    an image, the whole set is filled (or made), its sets of labels in proportion.
    """
    counts = powerset(data).counts()
    if data.multi_label:
        missing = arm.target if arm.pretrain else max(0, arm.target - len(data))
        shares = exact_shares(missing, [Fraction(count) for count in counts.values()])
        given = dict(zip(counts, shares, strict=True))
    else:
        given = {label: arm.target if arm.pretrain else max(0, arm.target - count) for label, count in counts.items()}
    return {label: count for label, count in given.items() if count}
