"""A model under test, and the checks that generators and classifiers share."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import torch
from safetensors.torch import load, save
from torch import Tensor

from medzoo import config as settings
from medzoo.protocols import Classifier, Generator, LabeledImages
from medzoo.specs import CONTRACT, ImageSpec
from medzoo.testing.fakes import CLASSES, NoImages, PlainImages
from medzoo.testing.monitor import LEARNING, Subject
from medzoo.testing.recording_callback import RecordingCallback
from medzoo.testing.suite import Suite, expect, expect_equal, expect_medzoo_error, global_seed, light_registration

BATCH = 8
ATOL = 1e-3  # float32 convolutions may take another algorithm, hence another rounding, for another batch size
_SUMMARY = 120

M = TypeVar("M", bound=Generator | Classifier)


class ModelSubject(Subject, ABC, Generic[M]):
    """A generator or a classifier of three classes under test; subclasses say how it is fitted, and what it answers.

    `methods` are what it must have, `protocol` what it must then be.
    """

    kind: ClassVar[str]
    protocol: ClassVar[type[Any]]
    methods: ClassVar[tuple[str, ...]]
    required: ClassVar[tuple[str, ...]]

    def __init__(self, spec: Any, *, device: str, overrides: Mapping[str, Any] | None, multi_label: bool) -> None:
        super().__init__(torch.device(device))
        self.spec = spec
        self.overrides = overrides
        self.multi_label = multi_label
        self.kept: dict[str, dict[str, Tensor]] = {}
        self.image: ImageSpec
        self.model: M
        self.first = RecordingCallback()

    @classmethod
    def suite(cls, spec: Any, device: str, overrides: Mapping[str, Any] | None) -> Suite:
        """Return the checks of `spec`; where it is multi-label, all of them again with multi-hot labels."""
        subjects = {"": cls(spec, device=device, overrides=overrides, multi_label=False)}
        if spec.multi_label:
            subjects["multi-label "] = cls(spec, device=device, overrides=overrides, multi_label=True)
        return Suite(
            f"{cls.kind} '{spec.name}'",
            {prefix + name: check for prefix, each in subjects.items() for name, check in each.checks().items()},
            required=[prefix + name for prefix in subjects for name in cls.required],
            device=torch.device(device),
        )

    @abstractmethod
    def checks(self) -> dict[str, Callable[[], str | None]]:
        """Return the checks by name, in order."""

    @property
    def first_checks(self) -> dict[str, Callable[[], str | None]]:
        """The checks that every kind begins with, up to those of its fitted weights."""
        return {
            "spec": self.check_spec,
            "registration": self.check_registration,
            "preset": self.check_preset,
            "build": self.check_build,
            "fit": self.check_fit,
            "fit repeats": self.check_fit_repeats,
            "fit resumes": self.check_fit_resumes,
            "fit on nothing": self.check_fit_on_nothing,
            "weights": self.check_weights,
        }

    @abstractmethod
    def check_fit(self) -> str | None:
        """Check what `fit` reports and leaves."""

    @abstractmethod
    def fit(self, model: M, run: RecordingCallback, *, data: LabeledImages | None = None, call: str = "fit") -> None:
        """Fit `model` with seed 5 on `data`, else on the made-up images."""

    @abstractmethod
    def answers(self, indices: Sequence[int] = range(BATCH), *, model: M | None = None) -> dict[str, Tensor]:
        """Return what the model gives for the inputs of these indices, by name, on the CPU."""

    @property
    def trainable(self) -> bool:
        """Whether there is anything to learn."""
        return True

    def recorder(self, *, restored: Mapping[str, Tensor] | None = None, stop: int | None = None) -> RecordingCallback:
        """Return a callback and checkpoint store for `fit`."""
        return RecordingCallback(self.kept, restored=restored, stop=stop)

    def configure(self, preset: str) -> None:
        """Take the settings of a preset. Raises: ContractError, or what the settings raise."""
        self.config, self.image = self._settings(preset)

    def build(self) -> M:
        """Build a model with weights drawn from the global random state, which is restored."""
        return self._built(self.config, self.image)

    def learner(self) -> M:
        """Fit a model of the preset `quick` (`tiny` if there is none) on the plainest images; its cost is not bounded.

        It may be of another image size.
        """
        preset = "quick" if "quick" in settings.preset_names(self.spec.presets) else "tiny"
        model = self._built(*self._settings(preset))
        self.fit(model, RecordingCallback(), data=PlainImages(model.image), call=LEARNING)
        return model

    def _settings(self, preset: str) -> tuple[Any, ImageSpec]:
        resolved: settings.Resolved[Any] = settings.resolve(
            self.spec.config, presets=self.spec.presets, preset=preset, overrides=self.overrides
        )
        size, channels = resolved.image.size, resolved.image.channels
        return resolved.value, ImageSpec(size=size, channels=channels, classes=CLASSES, multi_label=self.multi_label)

    def _built(self, config: Any, image: ImageSpec) -> M:
        devices = [self.device] if self.device.type == "cuda" else []
        with self.observed("build"), torch.random.fork_rng(devices=devices):
            model: M = self.spec.build(config, image, str(self.device))
        return model

    def check_spec(self) -> str | None:
        """Check the spec's texts, and that settings are described."""
        if self.multi_label:
            return None  # it is the same one
        spec = self.spec
        lines = spec.summary.splitlines()
        expect(len(lines) == 1 and bool(spec.summary.strip()), "expected a summary of one line")
        expect(len(spec.summary) <= _SUMMARY, f"expected a summary of at most {_SUMMARY} characters, for tables")
        expect(dataclasses.is_dataclass(spec.config), f"expected a dataclass as config, got {spec.config!r}")
        silent = ", ".join(settings.undescribed(spec.config)[:3])
        expect(not silent, f"expected settings made with medzoo.config.setting, these say nothing: {silent}")
        return f"contract {spec.contract} of {CONTRACT}, {len(settings.keys(spec.config))} settings"

    def check_registration(self) -> str | None:
        """Check what importing the plugin loads."""
        return None if self.multi_label else light_registration(self.kind, self.spec)

    def check_preset(self) -> str | None:
        """Check the presets, of which `tiny` is used."""
        spec, known = self.spec, settings.preset_names(self.spec.presets)
        found = ", ".join(known) or "none"
        expect("tiny" in known, f"expected a preset tiny.toml for tests, found: {found}")
        self.configure("tiny")
        if self.multi_label:
            return None  # they are the same
        expect("default" in known, f"expected a preset default.toml, which users get, found: {found}")
        settings.build(spec.config, settings.flatten(spec.config()))  # defaults are held to the same rules
        for name in known:
            settings.resolve(spec.config, presets=spec.presets, preset=name)
        return f"{found} resolve; tiny is of {self.image.size} pixels, {self.image.channels} channels"

    def check_build(self) -> str:
        """Check that `build` returns a model that satisfies its protocol."""
        if self.device.type == "cuda":
            _load_gpu_libraries(self.device)
        model = self.model = self.build()
        kind, name = self.kind.capitalize(), type(model).__name__
        for method in self.methods:
            expect(hasattr(model, method), f"expected a {kind}, {name} has no '{method}'")
        expect(isinstance(model, self.protocol), f"expected a {kind}, got {name}")
        expect(model.image == self.image, f"expected the ImageSpec it was built for, its image is {model.image}")
        expect_equal(model.state_dict(), self.build().state_dict(), "a second build from the same global seed")
        return f"{name}, {sum(value.numel() for value in model.state_dict().values())} numbers"

    def fit_first(self) -> RecordingCallback:
        """Fit the model. Raises: ContractError unless it reports its steps, rising, with finite losses."""
        run = self.first = self.recorder()
        self.fit(self.model, run)
        expect(bool(run.steps), "fit made no call of callback.on_step_end")
        bad = [f"{k} = {v}" for _, _, values in run.steps for k, v in values.items() if not math.isfinite(v)]
        expect(not bad, f"expected finite loss values, got {bad[0] if bad else ''}")
        steps = [step for step, _, _ in run.steps]
        expect(steps == sorted(set(steps)), f"expected rising steps in callback.on_step_end, got {steps}")
        return run

    def check_fit_repeats(self) -> str | None:
        """Check that the same seed gives the same weights."""
        if not self.trainable:
            return None
        again = self.build()
        with global_seed(1, self.device):
            self.fit(again, self.recorder())
        expect_equal(self.model.state_dict(), again.state_dict(), "a second fit from the same seed")
        return "the same seed gives the same weights, whatever the global random state"

    def check_fit_resumes(self) -> str | None:
        """Check a fit restored from its first unfinished checkpoint."""
        unfinished, steps = self.first.unfinished(), len(self.first.steps)
        if not self.trainable or steps < 2:
            return None
        if not self.first.checkpoints:
            return f"of {steps} steps no checkpoint is kept: an interrupted fit starts from the beginning"
        expect(
            bool(unfinished),
            f"expected a checkpoint before the last of {steps} steps, to go on from; let tiny.toml ask for one, as by "
            "training.checkpointing_steps",
        )
        step, state = unfinished[0]
        resumed, run = self.build(), self.recorder(restored=state)
        with global_seed(2, self.device):
            self.fit(resumed, run)
        first = run.steps[0][0] if run.steps else "none"
        expect(first == step + 1, f"expected a restored fit to go on at step {step + 1}, its first step was {first}")
        expect_equal(self.model.state_dict(), resumed.state_dict(), f"a fit resumed at step {step}")
        return f"a fit resumed at step {step} ends with the same weights"

    def check_fit_stops(self) -> str | None:
        """Check a fit that is asked to stop, and one restored where that stopped."""
        unfinished = self.first.unfinished()
        if not self.trainable or not unfinished or self.multi_label:
            return None  # where a fit stops has nothing to do with the kind of its labels
        step, state = unfinished[0]
        stopped, restored = self.build(), self.build()
        run, again = self.recorder(stop=step), self.recorder(restored=state, stop=step)
        self.fit(stopped, run)
        last = run.steps[-1][0] if run.steps else "none"
        expect(last == step, f"expected a fit asked to stop after step {step} to end there, its last step was {last}")
        self.answers(model=stopped)
        self.fit(restored, again)
        made = len(again.steps)
        expect(not made, f"expected no step of a fit restored at step {step} and asked to stop there, it made {made}")
        expect_equal(
            stopped.state_dict(), restored.state_dict(), f"a fit restored at step {step} from one stopped there"
        )
        return f"a fit stopped after step {step} ends there, and its checkpoint gives the same weights"

    def check_fit_on_nothing(self) -> str | None:
        """Check that a fit without images raises."""
        if not self.trainable:
            return None
        fresh, data = self.build(), NoImages(self.image)
        return expect_medzoo_error("no images to train on", lambda: self.fit(fresh, RecordingCallback(), data=data))

    def check_weights(self) -> str:
        """Check the state_dict."""
        state, fresh = self.model.state_dict(), self.build().state_dict()
        for name, value in state.items():
            expect(isinstance(value, Tensor), f"expected tensors in state_dict, '{name}' is a {type(value).__name__}")
            allowed = value.dtype == torch.float32 or not (value.is_floating_point() or value.is_complex())
            expect(allowed, f"expected float32 weights or whole numbers, '{name}' is {value.dtype}")
            expect(bool(torch.isfinite(value).all()), f"expected finite weights, '{name}' has others")
        changed = sorted(state.keys() ^ fresh.keys())
        expect(not changed, f"state_dict has other keys than in a fresh model: {', '.join(changed[:3])}")
        return f"{len(state)} tensors, float32 or whole numbers, the same keys in a fresh model"

    def check_rebatching(self) -> str:
        """Check that what it gives for an input depends on no other."""
        for name, whole in self.answers().items():
            allowed = ATOL * max(1.0, whole.abs().max().item())
            split = torch.cat([self.answers(range(1))[name], self.answers(range(1, BATCH))[name]])
            backwards = self.answers(range(BATCH - 1, -1, -1))[name].flip(0)
            for way, found in (("1 + 7", split), ("in reverse order", backwards)):
                apart = (whole - found).abs().max().item()
                expect(
                    apart <= allowed,
                    f"{name} changed by {apart:.2g} (allowed {allowed:.2g}) {way} instead of {BATCH} at once (the "
                    "batch must not matter, as it does to batch norm without eval(), and tiny.toml must compute in "
                    "fp32)",
                )
        return f"{BATCH} at once, 1 + 7 and reversed agree within {ATOL}"

    def check_save_and_load(self) -> str:
        """Check that a fresh model gives the same with the saved weights."""
        state = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        with global_seed(3, self.device):
            loaded = self.build()
        loaded.load_state_dict(load(save(state)))
        expect_equal(state, loaded.state_dict(), "a model that loaded them")
        after = self.answers(model=loaded)
        for name, before in self.answers().items():
            apart = (before - after[name]).abs().max().item()
            why = " (is something set by fit alone that changes how it rounds, such as channels_last?)"
            expect(
                torch.equal(before, after[name]),
                f"a model that loaded them gives other {name}, by up to {apart:.2g}{why if apart <= ATOL else ''}",
            )
        return f"saved as safetensors and loaded into a fresh model: the same {' and '.join(after)}"


def _load_gpu_libraries(device: torch.device) -> None:
    """Compute something, as the libraries that the first use of a GPU loads are no memory of what is under test."""
    images = torch.ones(1, 8, 8, 8, device=device, requires_grad=True)
    convolved = torch.nn.functional.conv2d(images, images.new_ones(8, 8, 3, 3)).flatten(2)
    (convolved @ convolved.mT).sum().backward()
