"""What every model refuses alike: images asked for or given that make no sense."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medzoo.errors import DataError
from medzoo.protocols import LabelledImages
from medzoo.specs import ImageSpec


def refuse_bad_request(image: ImageSpec, seeds: Sequence[int], labels: Tensor) -> None:
    """Nothing, if `Generator.sample` can be asked for an image of each of these seeds and labels.

    Raises:
        DataError: no seeds; not one label a seed; labels of another dtype, that are none of the classes or, where
            multi-label, neither 0 nor 1.
    """
    count, classes = len(seeds), len(image.classes)
    if not count:
        raise DataError("no image was asked for", "give a seed and a label for each image")
    shape, dtype = ((count, classes), torch.float32) if image.multi_label else ((count,), torch.int64)
    if tuple(labels.shape) != shape or labels.dtype != dtype:
        raise DataError(
            f"{count} images need labels {shape} in {_name(dtype)}, not {tuple(labels.shape)} in {_name(labels.dtype)}",
            "several labels an image are multi-hot rows" if image.multi_label else "a label is its class's number",
        )
    strange = (labels != 0) & (labels != 1) if image.multi_label else (labels < 0) | (labels >= classes)
    if bool(strange.any()):
        known = "0 or 1" if image.multi_label else f"0 to {classes - 1} ({', '.join(image.classes)})"
        raise DataError(f"the label {labels[strange][0].item():g} is none of the model's", f"labels are {known}")


def sound_sources(image: ImageSpec, seeds: Sequence[int], labels: Tensor, sources: Tensor | None) -> Tensor:
    """`sources`, for a generator that varies one a seed.

    Raises:
        DataError: none, or of another shape; and as `refuse_bad_request`.
    """
    refuse_bad_request(image, seeds, labels)
    expected = (len(seeds), image.channels, image.size, image.size)
    if sources is None or tuple(sources.shape) != expected:
        given = "none" if sources is None else str(tuple(sources.shape))
        raise DataError(f"it varies real images: {expected} are needed, {given} given", "give them with --data")
    return sources


def refuse_bad_images(image: ImageSpec, images: Tensor) -> None:
    """Nothing, if a classifier built for `image` can look at `images`. Raises: DataError for none, or another shape."""
    expected = (image.channels, image.size, image.size)
    if images.ndim != 4 or tuple(images.shape[1:]) != expected or not len(images):
        raise DataError(
            f"this classifier reads images (N, {', '.join(map(str, expected))}), not {tuple(images.shape)}",
            "prepare them as it was trained: Dataset.view(classifier.image, crop=...)",
        )


def refuse_no_images(data: LabelledImages, *, purpose: str = "to train on") -> None:
    """Nothing, if there is an image for this `purpose`. Raises: DataError."""
    if not len(data):
        raise DataError(f"there is no image {purpose}", "`medzoo data check` shows what a folder holds")


def refuse_small_classes(data: LabelledImages, *, least: int) -> None:
    """Nothing, if each class has `least` images to train on, those of several labels counted for each.

    Raises: DataError for a class that has fewer, and for no images at all.
    """
    refuse_no_images(data)
    labels = torch.from_numpy(data.labels)
    counts = torch.bincount(labels, minlength=len(data.classes)) if labels.ndim == 1 else labels.sum(dim=0)
    for name, count in zip(data.classes, counts.tolist(), strict=True):
        if count < least:
            raise DataError(
                f"class '{name}' has {count:g} images to train on, at least {least} are needed",
                "give more of it, or leave the class out",
            )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
