"""What every model refuses alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medzoo import ImageSpec
from medzoo.errors import DataError
from medzoo.toolkit.validation import (
    check_class_sizes,
    check_images,
    check_init_images,
    check_not_empty,
    check_sample_request,
)

IMAGE = ImageSpec(size=4, channels=1, classes=("benign", "malignant", "normal"))
CHEST = ImageSpec(size=4, channels=1, classes=("effusion", "edema"), multi_label=True)


@pytest.mark.parametrize(
    ("seeds", "labels", "message"),
    [
        ([], torch.empty(0, dtype=torch.int64), "no image was asked for"),
        ([1, 2], torch.tensor([0]), r"need labels \(2,\) in int64, not \(1,\) in int64"),
        ([1], torch.tensor([0.0]), r"in int64, not \(1,\) in float32"),
        ([1], torch.tensor([[1.0, 0.0, 0.0]]), r"not \(1, 3\) in float32"),
        (
            [1, 2],
            torch.tensor([0, 3]),
            r"label 3 is not one of the model's \(labels are 0 to 2 \(benign, malignant, normal",
        ),
        ([1], torch.tensor([-1]), "label -1 is not one"),
    ],
)
def test_check_sample_request_invalid_raises(seeds, labels, message):
    with pytest.raises(DataError, match=message):
        check_sample_request(IMAGE, seeds, labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0]), r"need labels \(1, 2\) in float32, not \(1,\) in int64.*multi-hot"),
        (torch.tensor([[1, 0]]), "in int64"),
        (torch.tensor([[0.5, 0.0]]), "label 0.5 is not one of the model's .labels are 0 or 1"),
    ],
)
def test_check_sample_request_multi_label_invalid_raises(labels, message):
    with pytest.raises(DataError, match=message):
        check_sample_request(CHEST, [1], labels)


def test_check_sample_request_valid():
    check_sample_request(IMAGE, [1, 2, 3], torch.tensor([0, 1, 2]))
    check_sample_request(CHEST, [1, 2], torch.tensor([[0.0, 0.0], [1.0, 1.0]]))


def test_check_init_images_returned_or_raises():
    init_images = torch.rand(1, 1, 4, 4)
    assert check_init_images(IMAGE, [1], torch.tensor([0]), init_images) is init_images
    for wrong, given in ((None, "none"), (torch.rand(1, 3, 4, 4), r"\(1, 3, 4, 4\)"), (torch.rand(2, 1, 4, 4), "2, 1")):
        with pytest.raises(DataError, match=rf"varies real images: expected init_images \(1, 1, 4, 4\), got .*{given}"):
            check_init_images(IMAGE, [1], torch.tensor([0]), wrong)


@pytest.mark.parametrize("shape", [(0, 1, 4, 4), (2, 3, 4, 4), (2, 1, 4, 5), (1, 4, 4)])
def test_check_images_wrong_shape_raises(shape):
    with pytest.raises(DataError, match=r"reads images \(N, 1, 4, 4\), not"):
        check_images(IMAGE, torch.zeros(shape))
    check_images(IMAGE, torch.zeros(1, 1, 4, 4))


class Labels:
    """As much of a data set as counts."""

    def __init__(self, labels, classes=IMAGE.classes):
        self.labels = labels
        self.classes = classes

    def __len__(self):
        return len(self.labels)


def test_check_not_empty_raises():
    nothing = Labels(np.empty(0, np.int64))
    with pytest.raises(DataError, match="no images to train on"):
        check_not_empty(nothing)
    with pytest.raises(DataError, match="no images to choose by"):
        check_not_empty(nothing, purpose="to choose by")
    with pytest.raises(DataError, match="no images to train on"):
        check_class_sizes(nothing, min_images=1)


def test_check_class_sizes_too_few_images_raise():
    labels = Labels(np.array([0, 0, 1, 1, 2]))
    check_class_sizes(labels, min_images=1)
    with pytest.raises(DataError, match="class 'normal' has 1 images to train on, at least 2 are needed"):
        check_class_sizes(labels, min_images=2)
    with pytest.raises(DataError, match="class 'normal' has 0 images"):
        check_class_sizes(Labels(np.array([0, 1])), min_images=1)


def test_check_class_sizes_multi_label():
    hot = Labels(np.array([[1, 1], [0, 1]], np.float32), classes=CHEST.classes)
    check_class_sizes(hot, min_images=1)
    with pytest.raises(DataError, match="class 'effusion' has 1 images"):
        check_class_sizes(hot, min_images=2)
