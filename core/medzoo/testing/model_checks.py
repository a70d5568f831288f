"""The checks that generators and classifiers share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from medzoo import config as settings
from medzoo.errors import MedzooError
from medzoo.plugins.foreign_errors import failure
from medzoo.specs import CONTRACT, ClassifierSpec, GeneratorSpec
from medzoo.testing.bounds import LEARNING
from medzoo.testing.contract import ContractError, expect, expect_equal, global_seed
from medzoo.testing.fake_images import CLASSES
from medzoo.testing.model_subject import ModelSubject
from medzoo.testing.recording_callback import RecordingCallback
from medzoo.testing.registration import light_registration
from medzoo.testing.suite import Stage, Suite

LAYOUT = "(is something set by fit alone that changes how it rounds, such as channels_last?)"
"""Why a model that loaded weights may give nearly what the one gives that was trained."""

_SUMMARY = 120

Subject = ModelSubject[Any]
M = TypeVar("M", bound=Subject)


def model_suite(
    kind: type[M],
    stages: Sequence[Stage[M]],
    spec: GeneratorSpec | ClassifierSpec,
    *,
    device: str,
    overrides: Mapping[str, Any] | None,
) -> Suite[M]:
    """Return the checks of a model; where it is multi-label, all of them again with multi-hot labels."""
    several = {"": False, "multi-label ": True} if spec.multi_label else {"": False}
    subjects = {
        prefix: kind(spec, device=device, overrides=overrides, multi_label=multi_label)
        for prefix, multi_label in several.items()
    }
    return Suite(f"{kind.kind} '{spec.name}'", stages, subjects)


def spec(subject: Subject) -> str | None:
    """Check the spec's texts, and that settings are described."""
    if subject.multi_label:
        return None  # it is the same one
    found = subject.spec
    lines = found.summary.splitlines()
    expect(len(lines) == 1 and bool(found.summary.strip()), "expected a summary of one line")
    expect(len(found.summary) <= _SUMMARY, f"expected a summary of at most {_SUMMARY} characters, for tables")
    expect(dataclasses.is_dataclass(found.config), f"expected a dataclass as config, got {found.config!r}")
    silent = settings.undescribed(found.config)
    expect(not silent, f"expected settings made with medzoo.config.setting, these say nothing: {', '.join(silent[:3])}")
    return f"contract {found.contract} of {CONTRACT}, {len(settings.keys(found.config))} settings"


def registration(subject: Subject) -> str | None:
    """Check what importing the plugin loads."""
    return None if subject.multi_label else light_registration(subject.kind, subject.spec)


def preset(subject: Subject) -> str | None:
    """Check the presets, of which `tiny` is used."""
    known = settings.preset_names(subject.spec.presets)
    found = ", ".join(known) or "none"
    expect("tiny" in known, f"expected a preset tiny.toml for tests, found: {found}")
    subject.configure("tiny")
    if subject.multi_label:
        return None  # they are the same
    expect("default" in known, f"expected a preset default.toml, which users get, found: {found}")
    config = subject.spec.config
    settings.build(config, settings.flatten(config()))  # defaults are held to the same rules
    for name in known:
        settings.resolve(config, presets=subject.spec.presets, preset=name)
    return f"{found} resolve; tiny is of {subject.image.size} pixels, {subject.image.channels} channels"


def build(subject: Subject) -> str:
    """Check that `build` returns a model that satisfies its protocol."""
    model = subject.model = subject.build()
    kind, name = subject.kind.capitalize(), type(model).__name__
    for method in subject.methods:
        expect(hasattr(model, method), f"expected a {kind}, {name} has no '{method}'")
    expect(isinstance(model, subject.protocol), f"expected a {kind}, got {name}")
    expect(model.image == subject.image, f"expected the ImageSpec it was built for, its image is {model.image}")
    expect_equal(model.state_dict(), subject.build().state_dict(), "a second build from the same global seed")
    return f"{name}, {sum(value.numel() for value in model.state_dict().values())} numbers"


def weights(subject: Subject) -> str:
    """Check the state_dict."""
    state, fresh = subject.model.state_dict(), subject.build().state_dict()
    for name, value in state.items():
        expect(isinstance(value, Tensor), f"expected tensors in state_dict, '{name}' is a {type(value).__name__}")
        allowed = value.dtype == torch.float32 or not (value.is_floating_point() or value.is_complex())
        expect(allowed, f"expected float32 weights or whole numbers, '{name}' is {value.dtype}")
        expect(bool(torch.isfinite(value).all()), f"expected finite weights, '{name}' has others")
    changed = sorted(state.keys() ^ fresh.keys())
    expect(not changed, f"state_dict has other keys than in a fresh model: {', '.join(changed[:3])}")
    return f"{len(state)} tensors, float32 or whole numbers, the same keys in a fresh model"


def expect_finite_losses(run: RecordingCallback) -> None:
    """Raise ContractError unless a fit reported its steps, rising, with finite losses."""
    expect(bool(run.steps), "fit made no call of callback.on_step_end")
    bad = [f"{k} = {v}" for _, _, values in run.steps for k, v in values.items() if not math.isfinite(v)]
    expect(not bad, f"expected finite loss values, got {bad[0] if bad else ''}")
    steps = [step for step, _, _ in run.steps]
    expect(steps == sorted(set(steps)), f"expected rising steps in callback.on_step_end, got {steps}")


def fit_repeats(subject: Subject) -> str | None:
    """Check that the same seed gives the same weights."""
    if not subject.trainable:
        return None
    again = subject.build()
    with global_seed(1, subject.device):
        subject.fit(again, subject.listener())
    expect_equal(subject.model.state_dict(), again.state_dict(), "a second fit from the same seed")
    return "the same seed gives the same weights, whatever the global random state"


def fit_resumes(subject: Subject) -> str | None:
    """Check a fit restored from its first unfinished checkpoint."""
    unfinished, steps = subject.first.unfinished(), len(subject.first.steps)
    if not subject.trainable or steps < 2:
        return None
    if not subject.first.checkpoints:
        return f"of {steps} steps no checkpoint is kept: an interrupted fit starts from the beginning"
    expect(
        bool(unfinished),
        f"expected a checkpoint before the last of {steps} steps, to go on from; let tiny.toml ask for one, as by "
        "training.checkpointing_steps",
    )
    step, state = unfinished[0]
    resumed, run = subject.build(), subject.listener(restored=state)
    with global_seed(2, subject.device):
        subject.fit(resumed, run)
    first = run.steps[0][0] if run.steps else "none"
    expect(first == step + 1, f"expected a restored fit to go on at step {step + 1}, its first step was {first}")
    expect_equal(subject.model.state_dict(), resumed.state_dict(), f"a fit resumed at step {step}")
    return f"a fit resumed at step {step} ends with the same weights"


def fit_on_nothing(subject: Subject) -> str | None:
    """Check that a fit without images raises."""
    if not subject.trainable:
        return None
    fresh = subject.build()
    data = NoImages(multi_label=subject.multi_label)
    return expect_medzoo_error("no images to train on", lambda: subject.fit(fresh, RecordingCallback(), data=data))


class NoImages:
    """A set of three classes without an image."""

    classes = CLASSES

    def __init__(self, *, multi_label: bool) -> None:
        self.labels = np.empty((0, len(CLASSES)), np.float32) if multi_label else np.empty(0, np.int64)

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> np.ndarray:
        """Raise IndexError: there is no image."""
        raise IndexError(index)


def expect_medzoo_error(what: str, call: Callable[[], object]) -> str:
    """Return the message of the MedzooError that `call` raises. Raises: ContractError unless it raises one."""
    try:
        call()
    except MedzooError as error:
        return f"{what}: {error.message}"
    except Exception as error:
        raise ContractError(f"expected a MedzooError for {what}, it raised {failure(error)}") from error
    raise ContractError(f"expected a MedzooError for {what}, none was raised")


def learner(subject: Subject, data: Any) -> Any:
    """Return a fresh model of the preset `quick`, fitted on `data`; what that costs is not bounded."""
    model = subject.build_quick()
    subject.fit(model, RecordingCallback(), data=data(model.image), call=LEARNING)
    return model
