"""The checks of a classifier: the images it is shown, and its answers, which are looked at."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medzoo.protocols import Classifier, FeatureClassifier, LabeledImages
from medzoo.testing.fakes import CLASSES, FakeImages, PlainImages, WeightedFakeImages
from medzoo.testing.models import ATOL, BATCH, ModelSubject
from medzoo.testing.recording_callback import RecordingCallback
from medzoo.testing.suite import CheckResult, expect, expect_equal, expect_medzoo_error, expect_tensor

if TYPE_CHECKING:
    import pytest

    from medzoo.specs import ClassifierSpec

_LEARNED = 0.9


def check_classifier(
    spec: ClassifierSpec, *, device: str = "cpu", overrides: Mapping[str, Any] | None = None
) -> list[CheckResult]:
    """Check the classifier contract of `spec`, one result per check; no error of a plugin is raised here.

    It is built from its `tiny` preset, with `overrides` (key=value), for three classes, fitted on 24 made-up images and
    asked about eight; to see whether it learns, it is fitted once more on classes that differ in brightness alone, with
    its preset `quick` if there is one. Where the spec is multi-label, all is done again with multi-hot labels, in the
    checks whose names begin with "multi-label". What follows a failure to build or to fit is left out.
    """
    return ClassifierSubject.suite(spec, device, overrides).results()


def assert_classifier(spec: ClassifierSpec, *, device: str = "cpu", overrides: Mapping[str, Any] | None = None) -> None:
    """Assert that `spec` passes every check. Raises: AssertionError, with a line for each failed check."""
    ClassifierSubject.suite(spec, device, overrides).assert_passed()


def classifier_checks(
    spec: ClassifierSpec, *, device: str = "cpu", overrides: Mapping[str, Any] | None = None
) -> pytest.MarkDecorator:
    """Return the decorator of `generator_checks` for a classifier."""
    return ClassifierSubject.suite(spec, device, overrides).as_tests()


class ClassifierSubject(ModelSubject[Classifier]):
    """A classifier under test."""

    kind = "classifier"
    protocol = Classifier
    methods = ("fit", "predict", "features", "state_dict", "load_state_dict", "image")
    required = ("preset", "build", "fit", "probabilities", "features")

    def checks(self) -> dict[str, Callable[[], str | None]]:
        """Return the checks by name, in order."""
        return {
            **self.first_checks,
            "probabilities": self._check_probabilities,
            "features": self._check_features,
            "rebatching": self.check_rebatching,
            "save and load": self.check_save_and_load,
            "fit stops": self.check_fit_stops,
            "sample weights": self._check_sample_weights,
            "frozen features": self._check_frozen_features,
            "learns": self._check_learns,
            "bad images": self._check_bad_images,
            **self.limits,
        }

    def fit(
        self, model: Classifier, run: RecordingCallback, *, data: LabeledImages | None = None, call: str = "fit"
    ) -> None:
        """Fit `model` with seed 5 on `data`, else on the made-up images, which are its validation too."""
        images = FakeImages(self.image) if data is None else data
        with self.observed(call):
            model.fit(images, validation=images, seed=5, callback=run, checkpoints=run)

    def answers(self, indices: Sequence[int] = range(BATCH), *, model: Classifier | None = None) -> dict[str, Tensor]:
        """Return probabilities and features of the images of these indices."""
        images = self._images()[list(indices)]
        return {"probabilities": self._predict(images, model=model), "features": self._features(images, model=model)}

    def _images(self) -> Tensor:
        """Return eight images that give a classifier different outputs."""
        data = FakeImages(self.image)
        return _stacked(data, range(0, len(data), len(data) // BATCH))

    def _predict(self, images: Tensor, *, model: Classifier | None = None) -> Tensor:
        """Return the probabilities of `images`, on the CPU. Raises: ContractError unless they are probabilities."""
        given = images.clone()
        with self.observed("predict"):
            found = (model or self.model).predict(images)
        expect_tensor(found, "probabilities", shape=(len(images), len(CLASSES)))
        expect(torch.equal(images, given), "predict changed the images it was given")
        low, high = found.min().item(), found.max().item()
        expect(low >= 0.0 and high <= 1.0, f"expected probabilities in [0, 1], got {low:.3g} to {high:.3g}")
        off = (found.sum(dim=1) - 1.0).abs().max().item()
        expect(self.multi_label or off <= ATOL, f"expected probabilities that sum to 1, they are off by {off:.2g}")
        return found.cpu()

    def _features(self, images: Tensor, *, model: Classifier | None = None) -> Tensor:
        with self.observed("features"):
            found = (model or self.model).features(images)
        return expect_tensor(found, "features", shape=(len(images), "D")).cpu()

    def check_fit(self) -> str:
        run = self.fit_first()
        step, total, _ = run.steps[-1]
        expect(step <= total, f"expected at most the {total} steps reported, the last was {step}")
        fresh = self.build().state_dict()
        moved = [k for k, v in self.model.state_dict().items() if not torch.equal(v.cpu(), fresh[k].cpu())]
        expect(bool(moved), "fit changed no weight")
        return f"{len(run.steps)} steps, {len(run.checkpoints)} checkpoints, {len(run.notes)} notes"

    def _check_probabilities(self) -> str:
        images = self._images()
        for count in (BATCH, 5, 1):
            self._predict(images[:count])
        sums = "in [0, 1]" if self.multi_label else "in [0, 1], with the sum 1"
        return f"of {BATCH}, 5 and 1 images: float32, {sums}"

    def _check_features(self) -> str:
        found = self.answers()["features"]
        expect(len(found.unique(dim=0)) > 1, "expected other features for other images, all are equal")
        return f"{found.shape[1]} an image, float32"

    def _check_sample_weights(self) -> str | None:
        """Check that loss weights of images make a difference, but not if they are all 1."""
        if not self.spec.sample_weights:
            return None
        found = {}
        for low in (1.0, 0.1):
            data = WeightedFakeImages(self.image, low=low)
            model = self.build()
            self.fit(model, RecordingCallback(), data=data)
            found[low] = model.state_dict()
        expect_equal(self.model.state_dict(), found[1.0], "a fit with weights of 1")
        changed = any(not torch.equal(value, found[0.1][name]) for name, value in found[1.0].items())
        expect(changed, "a fit in which half of the images have a weight of 0.1 gave the same model")
        return "images of a lower weight give another model, weights of 1 the same"

    def _check_frozen_features(self) -> str | None:
        """Check that a FeatureClassifier gives the same from features as from images."""
        if not isinstance(self.model, FeatureClassifier):
            return None
        data = FakeImages(self.image)
        images, labels = _stacked(data, range(len(data))), torch.from_numpy(data.labels)
        fresh = self.build()
        assert isinstance(fresh, FeatureClassifier)
        features = expect_tensor(fresh.extract(images), "extract", shape=(len(images), "V", "D"))
        trained = self.model.extract(images)
        expect(
            torch.equal(features, trained), "expected features that no training changes, those of a fitted one differ"
        )
        fresh.fit_features(features, labels, validation=(features, labels), seed=5)
        by_features = fresh.predict_features(features[:BATCH])
        for what, found in (("predict_features", by_features), ("fit", self.model.predict(images[:BATCH]))):
            apart = (fresh.predict(images[:BATCH]) - found).abs().max().item()
            expect(apart <= ATOL, f"{what} and predict after fit_features differ by {apart:.2g}")
        return f"{features.shape[1]} x {features.shape[2]} an image; fit and predict give the same from images"

    def _check_learns(self) -> str:
        learner = self.learner()
        data = PlainImages(learner.image)
        truth = torch.from_numpy(data.labels)
        guessed = self._predict(_stacked(data, range(len(data))), model=learner).argmax(dim=1)
        share = (guessed == (truth.argmax(dim=1) if self.multi_label else truth)).float().mean().item()
        expect(share > _LEARNED, f"expected more than {_LEARNED:.0%} right of black, gray and white, got {share:.0%}")
        return f"black, gray and white are distinguished: {share:.0%} right"

    def _check_bad_images(self) -> str:
        size, channels = self.image.size, self.image.channels
        kinds = {
            "no image": (0, channels, size, size),
            f"{4 - channels} channels": (2, 4 - channels, size, size),
            "another size": (2, channels, size + 1, size),
        }
        for what, shape in kinds.items():
            for name, call in (("predict", self.model.predict), ("features", self.model.features)):
                expect_medzoo_error(f"{what} in {name}", functools.partial(call, torch.zeros(shape)))
        return f"refused with a MedzooError: {', '.join(kinds)}"


def _stacked(data: LabeledImages, indices: Sequence[int]) -> Tensor:
    """Return images of `data`, float32 (N, C, H, W) in [0, 1]."""
    return torch.stack([torch.from_numpy(data[index]) for index in indices]).float() / 255.0
