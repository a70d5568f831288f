"""Checks of images and labels that all models share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medzoo.errors import DataError
from medzoo.protocols import LabeledImages
from medzoo.specs import ImageSpec


def check_sample_request(image: ImageSpec, seeds: Sequence[int], labels: Tensor) -> None:
    """Check the seeds and labels given to `Generator.sample`.

    Raises:
        DataError: no seeds; not one label per seed; labels of another dtype or outside the classes; multi-label,
            values other than 0 and 1.
    """
    count, classes = len(seeds), len(image.classes)
    if not count:
        raise DataError("no image was asked for", "give a seed and a label for each image")
    shape, dtype = ((count, classes), torch.float32) if image.multi_label else ((count,), torch.int64)
    if tuple(labels.shape) != shape or labels.dtype != dtype:
        raise DataError(
            f"{count} images need labels {shape} in {_name(dtype)}, not {tuple(labels.shape)} in {_name(labels.dtype)}",
            "labels are multi-hot rows" if image.multi_label else "a label is the index of its class",
        )
    strange = (labels != 0) & (labels != 1) if image.multi_label else (labels < 0) | (labels >= classes)
    if bool(strange.any()):
        known = "0 or 1" if image.multi_label else f"0 to {classes - 1} ({', '.join(image.classes)})"
        raise DataError(f"the label {labels[strange][0].item():g} is not one of the model's", f"labels are {known}")


def check_init_images(image: ImageSpec, seeds: Sequence[int], labels: Tensor, init_images: Tensor | None) -> Tensor:
    """Return `init_images` after checking that there is one per seed, and the request.

    Raises:
        DataError: no `init_images`, or of another shape; and as `check_sample_request`.
    """
    check_sample_request(image, seeds, labels)
    expected = (len(seeds), image.channels, image.size, image.size)
    if init_images is None or tuple(init_images.shape) != expected:
        given = "none" if init_images is None else str(tuple(init_images.shape))
        raise DataError(f"it varies real images: expected init_images {expected}, got {given}", "give them with --data")
    return init_images


def check_images(image: ImageSpec, images: Tensor) -> None:
    """Check that `images` (N, C, H, W), N at least 1, match `image`. Raises: DataError."""
    expected = (image.channels, image.size, image.size)
    if images.ndim != 4 or tuple(images.shape[1:]) != expected or not len(images):
        raise DataError(
            f"this classifier reads images (N, {', '.join(map(str, expected))}), not {tuple(images.shape)}",
            "prepare them as it was trained: Dataset.view(classifier.image, crop=...)",
        )


def check_not_empty(data: LabeledImages, *, purpose: str = "to train on") -> None:
    """Check that `data` has an image. Raises: DataError."""
    if not len(data):
        raise DataError(f"there are no images {purpose}", "`medzoo data check` shows what a folder holds")


def check_class_sizes(data: LabeledImages, *, min_images: int) -> None:
    """Check that each class has at least `min_images` images; one of several labels counts for each.

    Raises:
        DataError: a class has fewer, or there are no images.
    """
    check_not_empty(data)
    labels = torch.from_numpy(data.labels)
    counts = torch.bincount(labels, minlength=len(data.classes)) if labels.ndim == 1 else labels.sum(dim=0)
    for name, count in zip(data.classes, counts.tolist(), strict=True):
        if count < min_images:
            raise DataError(
                f"class '{name}' has {count:g} images to train on, at least {min_images} are needed",
                "give more of it, or leave the class out",
            )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
