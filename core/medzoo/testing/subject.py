"""What the conformance kit puts a model through: made-up data, a listening report, and calls that are watched."""

from __future__ import annotations

import contextlib
import math
import random
import re
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
_KEY = re.compile(r"[A-Za-z0-9_-]{1,100}")


class Broken(Exception):
    """A promise that was not kept: in one line, what was expected and what came."""


def expect(kept: bool, otherwise: str) -> None:
    """Nothing. Raises: Broken with `otherwise` unless `kept`."""
    if not kept:
        raise Broken(otherwise)


def expect_equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor], where: str) -> None:
    """Nothing. Raises: Broken unless the weights of two models are the same; `where` names the other one."""
    differing = sorted(one.keys() ^ other.keys())
    differing += [name for name in one.keys() & other.keys() if not torch.equal(one[name].cpu(), other[name].cpu())]
    names = ", ".join(differing[:3])
    expect(not differing, f"{len(differing)} of {len(one)} weights differ in {where}: {names}")


@contextlib.contextmanager
def watching(device: torch.device, touched: set[str], where: str) -> Iterator[None]:
    """Nothing; `touched` then names the global random states that changed inside, and `where` it was."""
    before = global_states(device)
    try:
        yield
    finally:
        after = global_states(device)
        touched |= {f"{name} {where}" for name in before if before[name] != after[name]}


class MadeUpImages:
    """24 noisy images of three classes, twelve, eight and four, brighter from class to class.

    Multi-label: every label brightens, seven images have two and three have none.
    """

    def __init__(self, image: ImageSpec) -> None:
        self.classes = image.classes
        if image.multi_label:
            kinds = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [0, 0, 0]], np.float32)
            self.labels = np.repeat(kinds, (6, 5, 3, 4, 3, 3), axis=0)
            light = self.labels @ np.array([16, 48, 80])
        else:
            self.labels = np.repeat(np.arange(3), (12, 8, 4)).astype(np.int64)
            light = 64 * self.labels
        grain = np.random.default_rng(0).integers(0, 96, (24, image.channels, image.size, image.size))
        self._pixels = (grain + light[:, None, None, None]).astype(np.uint8)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        """Image `index`: uint8 (C, H, W), a copy."""
        pixels: np.ndarray = self._pixels[index]
        return pixels.copy()


class Subject:
    """A generator under test, with what it was made from and what was seen of it."""

    def __init__(
        self, spec: GeneratorSpec, *, device: str, overrides: Sequence[str] = (), multi_label: bool = False
    ) -> None:
        self.spec = spec
        self.device = torch.device(device)
        self.overrides = overrides
        self.multi_label = multi_label
        self.touched: set[str] = set()
        self.config: Any = None
        self.kept: dict[str, dict[str, Tensor]] = {}
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
        self.image = ImageSpec(
            size=flat["image.size"], channels=flat["image.channels"], classes=CLASSES, multi_label=self.multi_label
        )
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
        self.sources = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1

    def build(self) -> Generator:
        """A fresh generator, its weights drawn from the global random state, which then is as it was."""
        with torch.random.fork_rng(devices=cuda_of(self.device)):
            return self.spec.build(self.config, self.image, str(self.device))

    def fit(self, generator: Generator, report: Recorder) -> None:
        """Fit `generator` on the made-up images with seed 5."""
        with watching(self.device, self.touched, "in fit"):
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
        with watching(self.device, self.touched, "in sample"):
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


class Listener:
    """A Report that keeps all it is told; `kept` are the tensors that the fits of one model share."""

    def __init__(
        self,
        kept: dict[str, dict[str, Tensor]],
        *,
        restored: Mapping[str, Tensor] | None = None,
        stop: int | None = None,
    ) -> None:
        self.kept = kept
        self.restored = restored
        self.stop = stop
        self.steps: list[tuple[int, int, dict[str, float]]] = []
        self.checkpoints: list[tuple[int, int, dict[str, Tensor]]] = []
        self.previews = 0
        self.notes: dict[str, dict[str, float | str]] = {}
        self.warnings: list[str] = []
        self._made: set[str] = set()

    def restore(self) -> Mapping[str, Tensor] | None:
        """The checkpoint to go on from, if this report was given one."""
        return self.restored

    def checkpoint(self, step: int, state: Mapping[str, Tensor]) -> None:
        """Keep a copy of `state`."""
        total = self.steps[-1][1] if self.steps else step
        self.checkpoints.append((step, total, _copied(state, "a checkpoint")))

    def progress(self, step: int, total: int, values: Mapping[str, float]) -> None:
        """Note the step and its values."""
        self.steps.append((step, total, {name: float(value) for name, value in values.items()}))

    def preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Count it."""
        self.previews += 1

    def note(self, name: str, value: Mapping[str, float | str]) -> None:
        """Remember a fact, which has to be fit for JSON."""
        bad = [key for key, entry in value.items() if not isinstance(entry, float | int | str)]
        bad += [key for key, entry in value.items() if isinstance(entry, float) and not math.isfinite(entry)]
        expect(not bad, f"expected texts and finite numbers in note '{name}', '{bad[0] if bad else ''}' is none")
        self.notes[name] = dict(value)

    def warn(self, message: str) -> None:
        """Remember a warning, which has to be one line."""
        expect(len(message.splitlines()) == 1, f"expected a warning of one line, got {message!r}")
        self.warnings.append(message)

    def keep(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Copies of the tensors first made for `key`; every fit makes them again, and has to get the same."""
        expect(_KEY.fullmatch(key) is not None, f"expected a key of letters, digits, '-' and '_', got {key!r}")
        if key not in self._made:
            made = _copied(make(), "what is kept")
            first = self.kept.setdefault(key, made)
            same = first.keys() == made.keys() and all(torch.equal(first[name], made[name]) for name in first)
            expect(same, f"expected a key that tells tensors apart, '{key}' stood for others before")
            self._made.add(key)
        return _copied(self.kept[key], "what is kept")

    def stop_after(self) -> int | None:
        """The step at which this report wants the fit to end, if at any."""
        return self.stop


class Recorder(Listener):
    """A Listener that looks at every preview as a user would."""

    def __init__(
        self, subject: Subject, *, restored: Mapping[str, Tensor] | None = None, stop: int | None = None
    ) -> None:
        super().__init__(subject.kept, restored=restored, stop=stop)
        self.subject = subject

    def preview(self, step: int, sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
        """Draw one image of each class."""
        images = sample(range(len(CLASSES)), self.subject.class_labels.clone())
        self.subject.expect_images(images, count=len(CLASSES))
        super().preview(step, sample)


def _copied(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Copies of `tensors` as a file would give them back: on the CPU, without gradients."""
    strange = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    expect(not strange, f"expected tensors in {where}, '{strange[0] if strange else ''}' is none")
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}


@contextlib.contextmanager
def global_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Nothing; inside, the global random states of torch, numpy and Python start from `seed`."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=cuda_of(device)):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def cuda_of(device: torch.device) -> list[torch.device]:
    """The devices beside the CPU whose random state is to be kept."""
    return [device] if device.type == "cuda" else []


def global_states(device: torch.device) -> dict[str, object]:
    """The global random states, to be compared."""
    name, words, *rest = np.random.get_state(legacy=True)
    states: dict[str, object] = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (name, np.asarray(words).tobytes(), *rest),
        "random": random.getstate(),
    }
    if device.type == "cuda":
        states["torch.cuda"] = torch.cuda.get_rng_state(device).numpy().tobytes()
    return states
