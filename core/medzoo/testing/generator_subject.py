"""A generator under test: its seeds, labels and init_images, and its images, which are looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from medzoo.protocols import Generator, LabeledImages
from medzoo.testing.contract import expect
from medzoo.testing.fake_images import CLASSES
from medzoo.testing.model_subject import BATCH, ModelSubject
from medzoo.testing.recording_callback import RecordingCallback


class GeneratorSubject(ModelSubject[Generator]):
    """A generator under test, with what it was made from and what was seen of it."""

    kind = "generator"
    protocol = Generator
    methods = ("fit", "sample", "state_dict", "load_state_dict", "image")

    @property
    def trainable(self) -> bool:
        """As its spec says."""
        return bool(self.spec.trainable)

    def listener(self, *, restored: Mapping[str, Tensor] | None = None, stop: int | None = None) -> RecordingCallback:
        """Return a callback and checkpoint store for `fit` that checks previews."""
        return PreviewCheckingCallback(self, restored=restored, stop=stop)

    def configure(self, preset: str) -> None:
        """Take the settings of a preset, and make the labels, seeds and init_images that suit them."""
        super().configure(preset)
        if self.multi_label:
            # All there are: no label, each alone, each two, all three.
            self.labels = (torch.arange(BATCH)[:, None] >> torch.arange(len(CLASSES)) & 1).float()
            self.other_labels = 1.0 - self.labels
            self.class_labels = torch.eye(len(CLASSES))
        else:
            self.labels = torch.arange(BATCH) % len(CLASSES)
            self.other_labels = (self.labels + 1) % len(CLASSES)
            self.class_labels = torch.arange(len(CLASSES))
        self.seeds = [2**62 + 7919 * index for index in range(BATCH)]  # as large as those that medzoo derives
        shape = (BATCH, self.image.channels, self.image.size, self.image.size)
        self.init_images = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1

    def fit(
        self, model: Generator, run: RecordingCallback, *, data: LabeledImages | None = None, call: str = "fit"
    ) -> None:
        """Fit `model` with seed 5 on `data`, else on the made-up images."""
        with self.observed(call):
            model.fit(self.fake_images() if data is None else data, seed=5, callback=run, checkpoints=run)

    def sample(
        self,
        indices: Sequence[int] = range(BATCH),
        *,
        labels: Tensor | None = None,
        init_images: Tensor | None = None,
        model: Generator | None = None,
    ) -> Tensor:
        """Sample the images of `indices`, on the CPU, checked for shape, dtype and range.

        Raises:
            ContractError: they are not images, or what was given to the call was changed by it.
        """
        chosen = list(indices)
        labels = (self.labels if labels is None else labels)[chosen].clone()
        init_images = (
            (self.init_images if init_images is None else init_images)[chosen].clone()
            if self.spec.needs_init_images
            else None
        )
        given = (labels.clone(), None if init_images is None else init_images.clone())
        with self.observed("sample"):
            images = (model or self.model).sample([self.seeds[k] for k in chosen], labels, init_images=init_images)
        self.expect_images(images, count=len(chosen))
        expect(torch.equal(labels, given[0]), "sample changed the labels it was given")
        if init_images is not None and given[1] is not None:
            shared = images.untyped_storage().data_ptr() == init_images.untyped_storage().data_ptr()
            expect(torch.equal(init_images, given[1]), "sample changed the init_images it was given")
            expect(not shared, "expected new images, sample gave the init_images' own memory back")
        return images.cpu()

    def expect_images(self, images: object, *, count: int) -> None:
        """Raise ContractError unless `images` are `count` images of the right shape, dtype and range."""
        shape = (count, self.image.channels, self.image.size, self.image.size)
        found = self.expect_tensor(images, "images", shape=shape)
        low, high = found.min().item(), found.max().item()
        expect(low >= 0.0 and high <= 1.0, f"expected pixels in [0, 1], got {low:.3g} to {high:.3g}")


class PreviewCheckingCallback(RecordingCallback):
    """A RecordingCallback that checks every preview."""

    def __init__(
        self, subject: GeneratorSubject, *, restored: Mapping[str, Tensor] | None = None, stop: int | None = None
    ) -> None:
        super().__init__(subject.kept, restored=restored, stop=stop)
        self.subject = subject

    def on_preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Draw one image of each class."""
        images = sample(range(len(CLASSES)), self.subject.class_labels.clone())
        self.subject.expect_images(images, count=len(CLASSES))
        super().on_preview(step, sample)
