"""What the conformance kit puts a generator through: made-up data, a listening report, and calls that are watched."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medzoo.specs import ImageSpec

if TYPE_CHECKING:
    from medzoo.config import Resolved
    from medzoo.protocols import Generator
    from medzoo.specs import GeneratorSpec

BATCH = 8
# float32 convolutions may take another algorithm, hence another rounding, for another batch size
ATOL = 1e-3
CLASSES = ("first", "second", "third")


class Broken(Exception):
    """A promise that was not kept: in one line, what was expected and what came."""


def expect(kept: bool, otherwise: str) -> None:
    """Nothing. Raises: Broken with `otherwise` unless `kept`."""
    if not kept:
        raise Broken(otherwise)


class MadeUpImages:
    """Twelve, eight and four noisy images of three classes, brighter from class to class."""

    def __init__(self, image: ImageSpec) -> None:
        self.classes = image.classes
        self.labels = np.repeat(np.arange(3), (12, 8, 4)).astype(np.int64)
        grain = np.random.default_rng(0).integers(0, 96, (24, image.channels, image.size, image.size))
        self._pixels = (grain + 64 * self.labels[:, None, None, None]).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        """Image `index`: uint8 (C, H, W), a copy."""
        pixels: np.ndarray = self._pixels[index]
        return pixels.copy()


class Subject:
    """A generator under test, with what it was made from and what was seen of it."""

    def __init__(self, spec: GeneratorSpec, *, device: str) -> None:
        self.spec = spec
        self.device = torch.device(device)
        self.touched: set[str] = set()
        self.config: Any = None
        self.generator: Generator
        self.first = Recorder(self)

    def configure(self, resolved: Resolved[Any]) -> None:
        """Take settings, and make the images, labels, seeds and sources that suit them."""
        flat = resolved.flat()
        lacking = {"image.size", "image.channels"} - flat.keys()
        expect(
            not lacking,
            f"expected the settings image.size and image.channels, {' and '.join(sorted(lacking))} is missing",
        )
        self.config = resolved.value
        self.image = ImageSpec(size=flat["image.size"], channels=flat["image.channels"], classes=CLASSES)
        self.labels = torch.arange(BATCH) % len(CLASSES)
        self.seeds = [2**62 + 7919 * index for index in range(BATCH)]  # as large as those that medzoo derives
        shape = (BATCH, self.image.channels, self.image.size, self.image.size)
        self.sources = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1

    def build(self) -> Generator:
        """A fresh generator, its weights drawn from the global random state, which then is as it was."""
        with torch.random.fork_rng(devices=_devices(self.device)):
            return self.spec.build(self.config, self.image, str(self.device))

    def fit(self, generator: Generator, report: Recorder) -> None:
        """Fit `generator` on the made-up images with seed 5."""
        with self._watched("in fit"):
            generator.fit(MadeUpImages(self.image), seed=5, report=report)

    def sample(
        self,
        indices: Sequence[int] = range(BATCH),
        *,
        labels: Tensor | None = None,
        sources: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """The images of `indices`, on the CPU, checked for shape, dtype and range.

        Raises:
            Broken: they are not images, or what was given to the call was changed by it.
        """
        chosen = list(indices)
        labels = (self.labels if labels is None else labels)[chosen].clone()
        sources = (self.sources if sources is None else sources)[chosen].clone() if self.spec.needs_sources else None
        given = (labels.clone(), None if sources is None else sources.clone())
        with self._watched("in sample"):
            images = (generator or self.generator).sample([self.seeds[k] for k in chosen], labels, sources=sources)
        self.expect_images(images, count=len(chosen))
        expect(torch.equal(labels, given[0]), "sample changed the labels it was given")
        if sources is not None and given[1] is not None:
            shared = images.untyped_storage().data_ptr() == sources.untyped_storage().data_ptr()
            expect(torch.equal(sources, given[1]), "sample changed the sources it was given")
            expect(not shared, "expected new images, sample gave the sources' own memory back")
        return images.cpu()

    def expect_images(self, images: object, *, count: int) -> None:
        """Nothing. Raises: Broken unless `images` are `count` images of the right shape, dtype and range."""
        shape = (count, self.image.channels, self.image.size, self.image.size)
        if not isinstance(images, Tensor):
            raise Broken(f"expected a tensor of images, got {type(images).__name__}")
        expect(tuple(images.shape) == shape, f"expected images of shape {shape}, got {tuple(images.shape)}")
        expect(images.dtype == torch.float32, f"expected float32 images, got {images.dtype}")
        expect(bool(torch.isfinite(images).all()), "expected finite images, some pixels are not")
        low, high = images.min().item(), images.max().item()
        expect(low >= 0.0 and high <= 1.0, f"expected pixels in [0, 1], got {low:.3g} to {high:.3g}")
        expect(not images.requires_grad, "expected images without gradients")

    @contextlib.contextmanager
    def _watched(self, where: str) -> Iterator[None]:
        before = _global_states(self.device)
        try:
            yield
        finally:
            after = _global_states(self.device)
            self.touched |= {f"{name} {where}" for name in before if before[name] != after[name]}


class Recorder:
    """A Report that keeps all it is told, and looks at every preview as a user would."""

    def __init__(self, subject: Subject, *, restored: Mapping[str, Tensor] | None = None) -> None:
        self.subject = subject
        self.restored = restored
        self.steps: list[tuple[int, int, dict[str, float]]] = []
        self.checkpoints: list[tuple[int, int, dict[str, Tensor]]] = []
        self.previews = 0

    def restore(self) -> Mapping[str, Tensor] | None:
        """The checkpoint to go on from, if this report was given one."""
        return self.restored

    def checkpoint(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Keep a copy of `state`."""
        strange = [name for name, value in state.items() if not isinstance(value, Tensor)]
        expect(not strange, f"expected tensors in a checkpoint, '{strange[0] if strange else ''}' is none")
        total = self.steps[-1][1] if self.steps else step
        self.checkpoints.append((step, total, {name: value.detach().clone() for name, value in state.items()}))

    def progress(self, step: int, total: int, values: Mapping[str, float]) -> None:
        """Note the step and its values."""
        self.steps.append((step, total, {name: float(value) for name, value in values.items()}))

    def preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Draw one image of each class."""
        images = sample(range(len(CLASSES)), torch.arange(len(CLASSES)))
        self.subject.expect_images(images, count=len(CLASSES))
        self.previews += 1


@contextlib.contextmanager
def global_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Nothing; inside, the global random states of torch, numpy and Python start from `seed`."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=_devices(device)):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def _devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []


def _global_states(device: torch.device) -> dict[str, object]:
    name, words, *rest = np.random.get_state(legacy=True)
    states: dict[str, object] = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (name, np.asarray(words).tobytes(), *rest),
        "random": random.getstate(),
    }
    if device.type == "cuda":
        states["torch.cuda"] = torch.cuda.get_rng_state(device).numpy().tobytes()
    return states
