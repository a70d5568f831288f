"""The checks of a classifier, in the order in which they are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load, save
from torch import Tensor

from medzoo import config as settings
from medzoo.errors import MedzooError
from medzoo.protocols import Classifier
from medzoo.specs import ImageSpec
from medzoo.testing.classifier_subject import ClassifierSubject, PlainImages
from medzoo.testing.results import CheckResult, assert_passed
from medzoo.testing.subject import ATOL, BATCH, CLASSES, Broken, Listener, expect, expect_equal, global_seed

if TYPE_CHECKING:
    from medzoo.specs import ClassifierSpec

_LEARNED = 0.9


def check_classifier(spec: ClassifierSpec, *, device: str = "cpu", overrides: Sequence[str] = ()) -> list[CheckResult]:
    """What `spec` keeps and breaks of the classifier contract, one result a check; nothing a plugin does raises here.

    It is built from its `tiny` preset, with `overrides` (key=value), for three classes, fitted on 24 made-up images and
    asked about eight; to see whether it learns, it is fitted once more on classes that differ in brightness alone.
    Where the spec is multi-label, all is done again with multi-hot labels, in the checks whose names begin with
    "multi-label". What follows a failure to build or to fit is left out.
    """
    results: list[CheckResult] = []
    for multi_label in (False, True) if spec.multi_label else (False,):
        subject = ClassifierSubject(spec, device=device, overrides=overrides, multi_label=multi_label)
        for checks, required in _STAGES:
            found = [subject.run(name, check) for name, check in checks.items()]
            results += [result for result in found if result is not None]
            if required and not all(result is None or result.passed for result in found):
                return results
    return results


def assert_classifier(spec: ClassifierSpec, *, device: str = "cpu", overrides: Sequence[str] = ()) -> None:
    """Nothing, if `spec` passes every check.

    Raises:
        AssertionError: one line for each check that failed.
    """
    results = check_classifier(spec, device=device, overrides=overrides)
    assert_passed(f"classifier '{spec.name}'", results)


def _preset(subject: ClassifierSubject) -> str | None:
    spec = subject.spec
    known = settings.preset_names(spec.presets)
    expect("tiny" in known, f"expected a preset tiny.toml for tests, found: {', '.join(known) or 'none'}")
    resolved = settings.resolve(spec.config, presets=spec.presets, preset="tiny", overrides=subject.overrides)
    flat = resolved.flat()
    lacking = sorted({"image.size", "image.channels"} - flat.keys())
    expect(not lacking, f"expected the settings image.size and image.channels, {' and '.join(lacking)} is missing")
    subject.config = resolved.value
    subject.image = ImageSpec(
        size=flat["image.size"],
        channels=flat["image.channels"],
        classes=CLASSES,
        multi_label=subject.multi_label,
    )
    if subject.multi_label:
        return None  # it is the same one
    return f"tiny.toml resolves: {subject.image.size} pixels, {subject.image.channels} channels"


def _build(subject: ClassifierSubject) -> str:
    classifier = subject.classifier = subject.build()
    for method in ("fit", "predict", "features", "state_dict", "load_state_dict", "image"):
        expect(hasattr(classifier, method), f"expected a Classifier, {type(classifier).__name__} has no '{method}'")
    expect(isinstance(classifier, Classifier), f"expected a Classifier, got {type(classifier).__name__}")
    found = classifier.image
    expect(found == subject.image, f"expected the ImageSpec it was built for, its image is {found}")
    expect_equal(classifier.state_dict(), subject.build().state_dict(), "a second build from the same global seed")
    return (
        f"a {type(classifier).__name__} of {sum(value.numel() for value in classifier.state_dict().values())} numbers"
    )


def _fit(subject: ClassifierSubject) -> str:
    report = subject.first = Listener(subject.kept)
    subject.fit(subject.classifier, report)
    expect(bool(report.steps), "fit made no call of report.progress")
    bad = [f"{k} = {v}" for _, _, values in report.steps for k, v in values.items() if not math.isfinite(v)]
    expect(not bad, f"expected finite loss values, got {bad[0] if bad else ''}")
    steps = [step for step, _, _ in report.steps]
    expect(steps == sorted(set(steps)), f"expected rising steps in report.progress, got {steps}")
    step, total, _ = report.steps[-1]
    expect(step <= total, f"expected at most the {total} steps told, the last was {step}")
    fresh = subject.build().state_dict()
    moved = [k for k, v in subject.classifier.state_dict().items() if not torch.equal(v.cpu(), fresh[k].cpu())]
    expect(bool(moved), "fit changed no weight")
    return f"{len(steps)} steps, {len(report.checkpoints)} checkpoints, {len(report.notes)} notes"


def _fit_repeats(subject: ClassifierSubject) -> str:
    again = subject.build()
    with global_seed(1, subject.device):
        subject.fit(again, Listener(subject.kept))
    expect_equal(subject.classifier.state_dict(), again.state_dict(), "a second fit from the same seed")
    return "the same seed gives the same weights, whatever the global random state"


def _fit_resumes(subject: ClassifierSubject) -> str | None:
    unfinished = [(step, state) for step, total, state in subject.first.checkpoints if step < total]
    if not unfinished:
        return None
    step, state = unfinished[0]
    resumed, report = subject.build(), Listener(subject.kept, restored=state)
    with global_seed(2, subject.device):
        subject.fit(resumed, report)
    first = report.steps[0][0] if report.steps else "none"
    expect(first == step + 1, f"expected a restored fit to go on at step {step + 1}, its first step was {first}")
    expect_equal(subject.classifier.state_dict(), resumed.state_dict(), f"a fit resumed at step {step}")
    return f"a fit resumed at step {step} ends with the same weights"


def _fit_stops(subject: ClassifierSubject) -> str | None:
    unfinished = [step for step, total, _ in subject.first.checkpoints if step < total]
    if not unfinished:
        return None
    report = Listener(subject.kept, stop=unfinished[0])
    subject.fit(subject.build(), report)
    last = report.steps[-1][0] if report.steps else "none"
    expect(
        last == unfinished[0], f"expected a fit asked to stop after step {unfinished[0]} to end there, not at {last}"
    )
    return f"a fit asked to stop after step {last} ends there"


def _weights(subject: ClassifierSubject) -> str:
    state = subject.classifier.state_dict()
    for name, value in state.items():
        expect(isinstance(value, Tensor), f"expected tensors in state_dict, '{name}' is a {type(value).__name__}")
        allowed = value.dtype == torch.float32 or not (value.is_floating_point() or value.is_complex())
        expect(allowed, f"expected float32 weights, '{name}' is {value.dtype}")
        expect(bool(torch.isfinite(value).all()), f"expected finite weights, '{name}' has others")
    changed = sorted(state.keys() ^ subject.build().state_dict().keys())
    expect(not changed, f"state_dict has other keys than in a fresh model: {', '.join(changed[:3])}")
    return f"{len(state)} tensors, float32, the same keys in a fresh model"


def _probabilities(subject: ClassifierSubject) -> str:
    images = subject.images()
    for count in (BATCH, 5, 1):
        subject.predict(images[:count])
    sums = "in [0, 1]" if subject.multi_label else "in [0, 1], with the sum 1"
    return f"of {BATCH}, 5 and 1 images: float32, {sums}"


def _features(subject: ClassifierSubject) -> str:
    found = subject.features(subject.images())
    expect(len(found.unique(dim=0)) > 1, "expected other features for other images, all are equal")
    return f"{found.shape[1]} an image, float32"


def _rebatching(subject: ClassifierSubject) -> str:
    images = subject.images()
    for what, call in (("probabilities", subject.predict), ("features", subject.features)):
        whole = call(images)
        allowed = ATOL * max(1.0, whole.abs().max().item())
        split = torch.cat([call(images[:1]), call(images[1:])])
        backwards = call(images.flip(0)).flip(0)
        for way, parts in (("1 + 7", split), ("in reverse order", backwards)):
            apart = (whole - parts).abs().max().item()
            expect(
                apart <= allowed, f"{what} changed by {apart:.2g} (allowed {allowed:.2g}) {way}, not {BATCH} at once"
            )
    return f"{BATCH} at once, 1 + 7 and reversed agree"


def _save_and_load(subject: ClassifierSubject) -> str:
    state = {name: value.detach().cpu().contiguous() for name, value in subject.classifier.state_dict().items()}
    with global_seed(3, subject.device):
        loaded = subject.build()
    loaded.load_state_dict(load(save(state)))
    expect_equal(state, loaded.state_dict(), "a model that loaded them")
    images = subject.images()
    for what, call in (("probabilities", subject.predict), ("features", subject.features)):
        expect(
            torch.equal(call(images), call(images, classifier=loaded)), f"a model that loaded them gives other {what}"
        )
    return "saved as safetensors and loaded into a fresh model: the same answers"


def _learns(subject: ClassifierSubject) -> str:
    data, learner = PlainImages(subject.image), subject.build()
    subject.fit(learner, Listener({}), data=data)
    images = torch.stack([torch.from_numpy(data[index]) for index in range(len(data))]).float() / 255.0
    truth = torch.from_numpy(data.labels)
    guessed = subject.predict(images, classifier=learner).argmax(dim=1)
    share = (guessed == (truth.argmax(dim=1) if subject.multi_label else truth)).float().mean().item()
    expect(share > _LEARNED, f"expected more than {_LEARNED:.0%} right of black, grey and white, got {share:.0%}")
    return f"black, grey and white are told apart: {share:.0%} right"


def _refuses_channels(subject: ClassifierSubject) -> str:
    other = 4 - subject.image.channels
    images = torch.zeros(2, other, subject.image.size, subject.image.size)
    try:
        subject.classifier.predict(images)
    except MedzooError as error:
        return f"{other} channels are refused: {error.message}"
    except Exception as error:
        raise Broken(f"expected a MedzooError for {other} channels, it raised {type(error).__name__}") from error
    raise Broken(f"expected a MedzooError for {other} channels in place of {subject.image.channels}, it answered")


def _global_state(subject: ClassifierSubject) -> str:
    touched = ", ".join(sorted(subject.touched))
    expect(not touched, f"expected random draws from the seed alone, but global state changed: {touched}")
    return "torch's, numpy's and Python's global random states stay as they were"


_STAGES: tuple[tuple[Mapping[str, Callable[[ClassifierSubject], str | None]], bool], ...] = (
    ({"preset": _preset}, True),
    ({"build": _build}, True),
    ({"fit": _fit}, True),
    ({"fit repeats": _fit_repeats, "fit resumes": _fit_resumes, "fit stops": _fit_stops, "weights": _weights}, False),
    ({"probabilities": _probabilities, "features": _features}, True),
    (
        {
            "rebatching": _rebatching,
            "save and load": _save_and_load,
            "learns": _learns,
            "refuses other channels": _refuses_channels,
            "global random state": _global_state,
        },
        False,
    ),
)
