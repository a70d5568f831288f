"""What the conformance kit puts a classifier through: plain images, watched calls, answers that are looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medzoo.protocols import Classifier, LabelledImages
from medzoo.specs import ImageSpec
from medzoo.testing.results import CheckResult, run_check
from medzoo.testing.subject import (
    ATOL,
    BATCH,
    CLASSES,
    Broken,
    Listener,
    MadeUpImages,
    cuda_of,
    expect,
    watching,
)

if TYPE_CHECKING:
    from medzoo.specs import ClassifierSpec


class ClassifierSubject:
    """A classifier under test, with what it was made from and what was seen of it."""

    def __init__(self, spec: ClassifierSpec, *, device: str, overrides: Sequence[str], multi_label: bool) -> None:
        self.spec = spec
        self.device = torch.device(device)
        self.overrides = overrides
        self.multi_label = multi_label
        self.touched: set[str] = set()
        self.kept: dict[str, dict[str, Tensor]] = {}
        self.first = Listener(self.kept)
        self.config: Any
        self.image: ImageSpec
        self.classifier: Classifier

    def run(self, name: str, check: Callable[[ClassifierSubject], str | None]) -> CheckResult | None:
        """The result of one check, or None where it does not apply."""
        return run_check(f"multi-label {name}" if self.multi_label else name, lambda: check(self), self.device)

    def build(self) -> Classifier:
        """A fresh classifier, its weights drawn from the global random state, which then is as it was."""
        with torch.random.fork_rng(devices=cuda_of(self.device)):
            return self.spec.build(self.config, self.image, str(self.device))

    def fit(self, classifier: Classifier, report: Listener, *, data: LabelledImages | None = None) -> None:
        """Fit `classifier` with seed 5 on `data`, else on the made-up images, which are its validation too."""
        images = MadeUpImages(self.image) if data is None else data
        with watching(self.device, self.touched, "in fit"):
            classifier.fit(images, validation=images, seed=5, report=report)

    def images(self) -> Tensor:
        """Eight images that tell a classifier's answers apart."""
        data = MadeUpImages(self.image)
        chosen = range(0, len(data), len(data) // BATCH)
        return torch.stack([torch.from_numpy(data[index]) for index in chosen]).float() / 255.0

    def predict(self, images: Tensor, *, classifier: Classifier | None = None) -> Tensor:
        """The probabilities of `images`, on the CPU. Raises: Broken unless they are probabilities."""
        given = images.clone()
        with watching(self.device, self.touched, "in predict"):
            found = (classifier or self.classifier).predict(images)
        self._expect_rows(found, "probabilities", rows=len(images), columns=len(CLASSES))
        expect(torch.equal(images, given), "predict changed the images it was given")
        low, high = found.min().item(), found.max().item()
        expect(low >= 0.0 and high <= 1.0, f"expected probabilities in [0, 1], got {low:.3g} to {high:.3g}")
        off = (found.sum(dim=1) - 1.0).abs().max().item()
        expect(self.multi_label or off <= ATOL, f"expected probabilities that sum to 1, they are off by {off:.2g}")
        return found.cpu()

    def features(self, images: Tensor, *, classifier: Classifier | None = None) -> Tensor:
        """The features of `images`, on the CPU. Raises: Broken unless they are rows of finite float32 numbers."""
        with watching(self.device, self.touched, "in features"):
            found = (classifier or self.classifier).features(images)
        self._expect_rows(found, "features", rows=len(images))
        return found.cpu()

    def _expect_rows(self, found: object, what: str, *, rows: int, columns: int | None = None) -> None:
        if not isinstance(found, Tensor):
            raise Broken(f"expected a tensor of {what}, got {type(found).__name__}")
        shape = (rows, columns if columns is not None else "D")
        fits = found.ndim == 2 and len(found) == rows and columns in (None, found.shape[1]) and found.shape[1] > 0
        expect(fits, f"expected {what} of shape {shape}, got {tuple(found.shape)}")
        expect(found.dtype == torch.float32, f"expected float32 {what}, got {found.dtype}")
        expect(bool(torch.isfinite(found).all()), f"expected finite {what}, some are not")
        expect(not found.requires_grad, f"expected {what} without gradients")


class PlainImages:
    """Images of one brightness each, by class or by label well apart, so that nothing is easier to learn."""

    def __init__(self, image: ImageSpec) -> None:
        self.classes = image.classes
        turns = 24
        if image.multi_label:
            self.labels = np.tile(np.eye(len(CLASSES), dtype=np.float32), (turns, 1))
        else:
            self.labels = np.tile(np.arange(len(CLASSES), dtype=np.int64), turns)
        light = np.tile(np.array([24, 128, 232]), turns) + np.random.default_rng(0).integers(-8, 9, 3 * turns)
        self._pixels = np.empty((len(light), image.channels, image.size, image.size), np.uint8)
        self._pixels[:] = light[:, None, None, None]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        """Image `index`: uint8 (C, H, W), a copy."""
        pixels: np.ndarray = self._pixels[index]
        return pixels.copy()
