"""The checks of a classifier, in the order in which they are made."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load, save

from medzoo.testing import model_checks as shared
from medzoo.testing.bounds import BOUNDS
from medzoo.testing.classifier_subject import ClassifierSubject
from medzoo.testing.contract import expect, expect_equal, global_seed
from medzoo.testing.fake_images import PlainImages
from medzoo.testing.model_subject import ATOL, BATCH
from medzoo.testing.results import CheckResult, assert_passed
from medzoo.testing.suite import Stage, Suite

if TYPE_CHECKING:
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
    return classifier_suite(spec, device=device, overrides=overrides).results()


def assert_classifier(spec: ClassifierSpec, *, device: str = "cpu", overrides: Mapping[str, Any] | None = None) -> None:
    """Assert that `spec` passes every check.

    Raises:
        AssertionError: one line for each check that failed.
    """
    results = check_classifier(spec, device=device, overrides=overrides)
    assert_passed(f"classifier '{spec.name}'", results)


def classifier_suite(
    spec: ClassifierSpec, *, device: str = "cpu", overrides: Mapping[str, Any] | None = None
) -> Suite[ClassifierSubject]:
    """Return the checks of `check_classifier` without running them."""
    return shared.model_suite(ClassifierSubject, _STAGES, spec, device=device, overrides=overrides)


def _fit(subject: ClassifierSubject) -> str:
    run = subject.first = subject.listener()
    subject.fit(subject.model, run)
    shared.expect_finite_losses(run)
    step, total, _ = run.steps[-1]
    expect(step <= total, f"expected at most the {total} steps reported, the last was {step}")
    fresh = subject.build().state_dict()
    moved = [k for k, v in subject.model.state_dict().items() if not torch.equal(v.cpu(), fresh[k].cpu())]
    expect(bool(moved), "fit changed no weight")
    return f"{len(run.steps)} steps, {len(run.checkpoints)} checkpoints, {len(run.notes)} notes"


def _fit_stops(subject: ClassifierSubject) -> str | None:
    unfinished = subject.first.unfinished()
    if not unfinished:
        return None
    step, _ = unfinished[0]
    run = subject.listener(stop=step)
    subject.fit(subject.build(), run)
    last = run.steps[-1][0] if run.steps else "none"
    expect(last == step, f"expected a fit asked to stop after step {step} to end there, not at {last}")
    return f"a fit asked to stop after step {step} ends there"


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
    state = {name: value.detach().cpu().contiguous() for name, value in subject.model.state_dict().items()}
    with global_seed(3, subject.device):
        loaded = subject.build()
    loaded.load_state_dict(load(save(state)))
    expect_equal(state, loaded.state_dict(), "a model that loaded them")
    images = subject.images()
    for what, call in (("probabilities", subject.predict), ("features", subject.features)):
        before, after = call(images), call(images, model=loaded)
        why = shared.LAYOUT if torch.allclose(before, after, atol=ATOL) else ""
        expect(torch.equal(before, after), f"a model that loaded them gives other {what} {why}")
    return "saved as safetensors and loaded into a fresh model: the same answers"


def _learns(subject: ClassifierSubject) -> str:
    learner = shared.learner(subject, PlainImages)
    data = PlainImages(learner.image)
    images = torch.stack([torch.from_numpy(data[index]) for index in range(len(data))]).float() / 255.0
    truth = torch.from_numpy(data.labels)
    guessed = subject.predict(images, model=learner).argmax(dim=1)
    share = (guessed == (truth.argmax(dim=1) if subject.multi_label else truth)).float().mean().item()
    expect(share > _LEARNED, f"expected more than {_LEARNED:.0%} right of black, gray and white, got {share:.0%}")
    return f"black, gray and white are distinguished: {share:.0%} right"


def _bad_images(subject: ClassifierSubject) -> str:
    size, channels = subject.image.size, subject.image.channels
    kinds = {
        "no image": (0, channels, size, size),
        f"{4 - channels} channels": (2, 4 - channels, size, size),
        "another size": (2, channels, size + 1, size),
    }
    for what, shape in kinds.items():
        for name, call in (("predict", subject.model.predict), ("features", subject.model.features)):
            shared.expect_medzoo_error(f"{what} in {name}", functools.partial(call, torch.zeros(shape)))
    return f"refused with a MedzooError: {', '.join(kinds)}"


_STAGES: tuple[Stage[ClassifierSubject], ...] = (
    Stage(checks={"spec": shared.spec, "registration": shared.registration}),
    Stage(checks={"preset": shared.preset}, required=True),
    Stage(checks={"build": shared.build}, required=True),
    Stage(checks={"fit": _fit}, required=True),
    Stage(
        checks={
            "fit repeats": shared.fit_repeats,
            "fit resumes": shared.fit_resumes,
            "fit stops": _fit_stops,
            "fit on nothing": shared.fit_on_nothing,
            "weights": shared.weights,
        }
    ),
    Stage(checks={"probabilities": _probabilities, "features": _features}, required=True),
    Stage(
        checks={
            "rebatching": _rebatching,
            "save and load": _save_and_load,
            "learns": _learns,
            "bad images": _bad_images,
            **BOUNDS,
        }
    ),
)
