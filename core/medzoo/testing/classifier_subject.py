"""A classifier under test: the images it is shown, and its answers, which are looked at."""

from __future__ import annotations

import torch
from torch import Tensor

from medzoo.protocols import Classifier, LabeledImages
from medzoo.testing.contract import expect
from medzoo.testing.fake_images import CLASSES
from medzoo.testing.model_subject import ATOL, BATCH, ModelSubject
from medzoo.testing.recording_callback import RecordingCallback


class ClassifierSubject(ModelSubject[Classifier]):
    """A classifier under test, with what it was made from and what was seen of it."""

    kind = "classifier"
    protocol = Classifier
    methods = ("fit", "predict", "features", "state_dict", "load_state_dict", "image")

    def fit(
        self, model: Classifier, run: RecordingCallback, *, data: LabeledImages | None = None, call: str = "fit"
    ) -> None:
        """Fit `model` with seed 5 on `data`, else on the made-up images, which are its validation too."""
        images = self.fake_images() if data is None else data
        with self.observed(call):
            model.fit(images, validation=images, seed=5, callback=run, checkpoints=run)

    def images(self) -> Tensor:
        """Return eight images that give a classifier different outputs."""
        data = self.fake_images()
        chosen = range(0, len(data), len(data) // BATCH)
        return torch.stack([torch.from_numpy(data[index]) for index in chosen]).float() / 255.0

    def predict(self, images: Tensor, *, model: Classifier | None = None) -> Tensor:
        """Return the probabilities of `images`, on the CPU. Raises: ContractError unless they are probabilities."""
        given = images.clone()
        with self.observed("predict"):
            found = (model or self.model).predict(images)
        self.expect_tensor(found, "probabilities", shape=(len(images), len(CLASSES)))
        expect(torch.equal(images, given), "predict changed the images it was given")
        low, high = found.min().item(), found.max().item()
        expect(low >= 0.0 and high <= 1.0, f"expected probabilities in [0, 1], got {low:.3g} to {high:.3g}")
        off = (found.sum(dim=1) - 1.0).abs().max().item()
        expect(self.multi_label or off <= ATOL, f"expected probabilities that sum to 1, they are off by {off:.2g}")
        return found.cpu()

    def features(self, images: Tensor, *, model: Classifier | None = None) -> Tensor:
        """Return the features of `images`, on the CPU. Raises: ContractError unless finite float32 rows."""
        with self.observed("features"):
            found = (model or self.model).features(images)
        return self.expect_tensor(found, "features", shape=(len(images), "D")).cpu()
