"""Labels: their names for files and tables, and the tensors that models take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from medzoo.errors import DataError
from medzoo.specs import ImageSpec

if TYPE_CHECKING:
    from torch import Tensor

# Joins the labels of one image, in the CSVs that `medzoo.data.readers` reads as in metadata.csv.
_JOINT = "|"


def join_labels(classes: Sequence[str]) -> str:
    """Join several classes into the one label that stands for them, as in "effusion|edema"."""
    return _JOINT.join(classes)


def split_label(label: str) -> list[str]:
    """Split a label into its class names: the inverse of `join_labels`."""
    return label.split(_JOINT)


def check_labels(labels: Sequence[str]) -> None:
    """Check that class names can name folders on every system and hold no '|', which separates names.

    Raises: DataError.
    """
    for label in labels:
        if not label or label.startswith(".") or set(label) & {*"/\\\0\n\r", _JOINT}:
            raise DataError(f"the class name '{label}' cannot be a folder's name", "rename the class")


def label_tensor(image: ImageSpec, labels: Sequence[str]) -> Tensor:
    """Return labels as a model takes them: int64 (N,), or float32 multi-hot (N, K) where it is multi-label.

    A multi-label model's labels may each be several class names, as `plan.join_labels` gives them.
    """
    import torch

    if not image.multi_label:
        return torch.tensor([image.classes.index(label) for label in labels])
    hot = torch.zeros(len(labels), len(image.classes))
    for row, label in enumerate(labels):
        hot[row, [image.classes.index(name) for name in split_label(label)]] = 1.0
    return hot
