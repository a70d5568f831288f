"""A model under test: what it is made from, the calls to it, and what was seen of them."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from medzoo import config as settings
from medzoo.protocols import Classifier, Generator, LabeledImages
from medzoo.specs import ClassifierSpec, GeneratorSpec, ImageSpec
from medzoo.testing.contract import ContractError, cuda_of, expect, global_state_monitored
from medzoo.testing.fake_images import CLASSES, FakeImages
from medzoo.testing.monitor import Monitor, monitored
from medzoo.testing.recording_callback import RecordingCallback

BATCH = 8
# float32 convolutions may take another algorithm, hence another rounding, for another batch size
ATOL = 1e-3
_QUICK = "quick"

M = TypeVar("M", bound=Generator | Classifier)


class ModelSubject(ABC, Generic[M]):
    """A generator or a classifier of three classes under test; subclasses say how it is fitted.

    `methods` are what it must have, `protocol` what it must then be. `touched` collects the global random states that
    its calls changed, `seen` what else they did, by the kind of call.
    """

    kind: str
    protocol: type[Any]
    methods: tuple[str, ...]

    def __init__(
        self,
        spec: GeneratorSpec | ClassifierSpec,
        *,
        device: str,
        overrides: Mapping[str, Any] | None,
        multi_label: bool,
    ) -> None:
        self.spec: Any = spec
        self.device = torch.device(device)
        self.overrides = overrides
        self.multi_label = multi_label
        self.touched: set[str] = set()
        self.seen: defaultdict[str, Monitor] = defaultdict(Monitor)
        self.kept: dict[str, dict[str, Tensor]] = {}
        self.config: Any = None
        self.image: ImageSpec
        self.model: M
        self.first = self.listener()

    @property
    def trainable(self) -> bool:
        """Whether there is anything to learn."""
        return True

    def listener(self, *, restored: Mapping[str, Tensor] | None = None, stop: int | None = None) -> RecordingCallback:
        """Return a callback and checkpoint store for `fit`."""
        return RecordingCallback(self.kept, restored=restored, stop=stop)

    def configure(self, preset: str) -> None:
        """Take the settings of a preset. Raises: ContractError, or what the settings raise."""
        self.config, self.image = self._settings(preset)

    def _settings(self, preset: str) -> tuple[Any, ImageSpec]:
        spec = self.spec
        resolved: settings.Resolved[Any] = settings.resolve(
            spec.config, presets=spec.presets, preset=preset, overrides=self.overrides
        )
        size, channels = resolved.image.size, resolved.image.channels
        image = ImageSpec(size=size, channels=channels, classes=CLASSES, multi_label=self.multi_label)
        return resolved.value, image

    def build(self) -> M:
        """Build a model with weights drawn from the global random state, which is restored."""
        return self._built(self.config, self.image)

    def build_quick(self) -> M:
        """Build a model that learns the plainest images in one fit: of the preset `quick` if any, else `tiny`.

        It may be of another image size.
        """
        known = settings.preset_names(self.spec.presets)
        return self._built(*self._settings(_QUICK if _QUICK in known else "tiny"))

    def _built(self, config: Any, image: ImageSpec) -> M:
        with self.observed("build"), torch.random.fork_rng(devices=cuda_of(self.device)):
            model: M = self.spec.build(config, image, str(self.device))
        return model

    @contextlib.contextmanager
    def observed(self, call: str) -> Iterator[None]:
        """Monitor what happens inside the block, under the name `call`."""
        where = (
            contextlib.nullcontext()
            if call == "build"
            else global_state_monitored(self.device, self.touched, f"in {call}")
        )
        with where, monitored(self.seen[call]):
            yield

    @abstractmethod
    def fit(self, model: M, run: RecordingCallback, *, data: LabeledImages | None = None, call: str = "fit") -> None:
        """Fit `model` with seed 5 on `data`, else on the made-up images."""

    def fake_images(self) -> FakeImages:
        """Return the images it is fitted on."""
        return FakeImages(self.image)

    def expect_tensor(self, found: object, what: str, *, shape: tuple[int | str, ...]) -> Tensor:
        """Return `found` if it is a finite float32 tensor of `shape`, where a text is any size; else ContractError."""
        if not isinstance(found, Tensor):
            raise ContractError(f"expected a tensor of {what}, got {type(found).__name__}")
        sizes = zip(found.shape, shape, strict=False)
        fits = found.ndim == len(shape) and all(
            size == want or (isinstance(want, str) and size) for size, want in sizes
        )
        expect(fits, f"expected {what} of shape {shape}, got {tuple(found.shape)}")
        expect(found.dtype == torch.float32, f"expected float32 {what}, got {found.dtype}")
        expect(bool(torch.isfinite(found).all()), f"expected finite {what}, some are not")
        expect(not found.requires_grad, f"expected {what} without gradients")
        return found
