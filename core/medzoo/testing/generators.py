"""The checks of a generator, in the order in which they are made."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from medzoo.testing import model_checks as shared
from medzoo.testing.bounds import BOUNDS
from medzoo.testing.contract import expect, expect_equal, global_seed
from medzoo.testing.fake_images import BRIGHTNESS, CLASSES, PlainImages
from medzoo.testing.generator_subject import GeneratorSubject
from medzoo.testing.label_tokens import attention_maps, label_tokens
from medzoo.testing.model_subject import ATOL, BATCH
from medzoo.testing.results import CheckResult, assert_passed
from medzoo.testing.suite import Stage, Suite

if TYPE_CHECKING:
    from medzoo.specs import GeneratorSpec

_OBEYED = 0.75
_DRAWN = 16


def check_generator(
    spec: GeneratorSpec, *, device: str = "cpu", overrides: Mapping[str, Any] | None = None
) -> list[CheckResult]:
    """Check the generator contract of `spec`, one result per check; no error of a plugin is raised here.

    It is built from its `tiny` preset, with `overrides` (key=value) for what no preset can know, for three classes,
    fitted on 24 made-up images and asked for pictures; where the spec is multi-label, once more with multi-hot labels,
    in the checks whose names begin with "multi-label". To see whether it obeys labels, it is fitted on plain black,
    gray and white images, with its preset `quick` if there is one. Checks that cannot apply are left out: fitting for a
    spec that is not trainable, init_images for one that needs none, and all that follows a failure to build or to give
    pictures.
    """
    return generator_suite(spec, device=device, overrides=overrides).results()


def assert_generator(spec: GeneratorSpec, *, device: str = "cpu", overrides: Mapping[str, Any] | None = None) -> None:
    """Assert that `spec` passes every check.

    Raises:
        AssertionError: one line for each check that failed.
    """
    assert_passed(f"generator '{spec.name}'", check_generator(spec, device=device, overrides=overrides))


def generator_suite(
    spec: GeneratorSpec, *, device: str = "cpu", overrides: Mapping[str, Any] | None = None
) -> Suite[GeneratorSubject]:
    """Return the checks of `check_generator` without running them."""
    return shared.model_suite(GeneratorSubject, _STAGES, spec, device=device, overrides=overrides)


def _fit(subject: GeneratorSubject) -> str | None:
    if not subject.trainable:
        return None
    run = subject.first = subject.listener()
    subject.fit(subject.model, run)
    shared.expect_finite_losses(run)
    step, total, _ = run.steps[-1]
    expect(
        step == total, f"expected the last callback.on_step_end to be step {total} of {total}, got {step} of {total}"
    )
    counts = f"{run.previews} previews, {len(run.notes)} notes, {len(run.warnings)} warnings"
    return f"{len(run.steps)} steps, {len(run.checkpoints)} checkpoints, {counts}"


def _fit_stops(subject: GeneratorSubject) -> str | None:
    unfinished = subject.first.unfinished()
    if not subject.trainable or not unfinished or subject.multi_label:
        return None  # where a fit stops has nothing to do with the kind of its labels
    step, state = unfinished[0]
    stopped, restored = subject.build(), subject.build()
    run, again = subject.listener(stop=step), subject.listener(restored=state, stop=step)
    subject.fit(stopped, run)
    last = run.steps[-1][0] if run.steps else "none"
    expect(last == step, f"expected a fit asked to stop after step {step} to end there, its last step was {last}")
    subject.sample(model=stopped)
    subject.fit(restored, again)
    made = len(again.steps)
    expect(not made, f"expected no step of a fit restored at step {step} and asked to stop after it, it made {made}")
    expect_equal(stopped.state_dict(), restored.state_dict(), f"a fit restored at step {step} from one stopped there")
    return f"a fit stopped after step {step} ends there, and its checkpoint gives the same weights"


def _images(subject: GeneratorSubject) -> str:
    for count in (BATCH, 5, 1):
        subject.sample(range(count))
    return f"{BATCH}, 5 and 1 images asked for and given: float32, finite, in [0, 1]"


def _seeds_repeat(subject: GeneratorSubject) -> str:
    first = subject.sample()
    with global_seed(1, subject.device):
        second = subject.sample()
    expect(torch.equal(first, second), f"the same seeds gave other images: {_distance(first, second)}")
    return "the same seeds give the same images, whatever the global random state"


def _seeds_differ(subject: GeneratorSubject) -> str | None:
    if subject.spec.needs_init_images:
        return None  # the source already distinguishes images, so a seed need not
    images = subject.sample(labels=subject.labels[:1].expand_as(subject.labels)).flatten(1)
    apart = torch.cdist(images, images, p=float("inf")) + torch.eye(BATCH)
    expect(bool(apart.min() > ATOL), f"expected another image for each seed, two differ by {apart.min().item():.1g}")
    return f"{BATCH} seeds of one label give {BATCH} images"


def _rebatching(subject: GeneratorSubject) -> str:
    whole = subject.sample()
    split = torch.cat([subject.sample(range(1)), subject.sample(range(1, BATCH))])
    backwards = subject.sample(range(BATCH - 1, -1, -1)).flip(0)
    why = "the batch must not matter, as it does to batch norm without eval(), and tiny.toml must compute in fp32"
    for way, images in (("1 + 7", split), ("in reverse order", backwards)):
        _expect_close(whole, images, f"drawn {way} instead of {BATCH} at once ({why})")
    return f"{BATCH} at once, 1 + 7 and reversed agree within {ATOL}"


def _labels(subject: GeneratorSubject) -> str:
    whole = subject.sample()
    for kept in (torch.arange(BATCH) % 2 == 0, torch.arange(BATCH) % 2 == 1):
        labels = subject.labels.clone()
        labels[~kept] = subject.other_labels[~kept]
        _expect_close(whole[kept], subject.sample(labels=labels)[kept], "when the labels of other images changed")
    return "an image's label is its own"


def _combinations(subject: GeneratorSubject) -> str | None:
    if not subject.multi_label:
        return None
    rows = {"no label": (0, 0, 0), "the first": (1, 0, 0), "the second": (0, 1, 0), "both": (1, 1, 0)}
    images = {name: subject.sample([0], labels=torch.tensor([row]).float()) for name, row in rows.items()}
    if torch.allclose(images["the first"], images["the second"], rtol=0.0, atol=1e-6):
        return "labels make no difference"
    for (one, first), (other, second) in itertools.combinations(images.items(), 2):
        expect(not torch.equal(first, second), f"expected another image for other labels, {one} gave that of {other}")
    return "no label, each of two and both give four images"


def _sources(subject: GeneratorSubject) -> str | None:
    if not subject.spec.needs_init_images:
        return None
    whole = subject.sample()
    for kept in (torch.arange(BATCH) % 2 == 0, torch.arange(BATCH) % 2 == 1):
        init_images = torch.where(kept.view(-1, 1, 1, 1), subject.init_images, 1.0 - subject.init_images)
        images = subject.sample(init_images=init_images)
        _expect_close(whole[kept], images[kept], "when the init_images of other images changed")
        ignored = (whole[~kept] == images[~kept]).flatten(1).all(dim=1)
        expect(not bool(ignored.any()), "an image stayed the same when its source was inverted")
    return "an image's source is its own"


def _label_obedience(subject: GeneratorSubject) -> str | None:
    if not subject.trainable or subject.spec.needs_init_images:
        return None
    learner = shared.learner(subject, PlainImages)
    seeds = range(_DRAWN)
    light = [
        learner.sample(seeds, label.expand(_DRAWN, *label.shape).clone()).flatten(1).mean(dim=1)
        for label in subject.class_labels
    ]
    learned = torch.tensor(BRIGHTNESS) / 255.0
    nearest = (torch.stack(light).cpu()[:, :, None] - learned).abs().argmin(dim=2)
    share = (nearest == torch.arange(len(CLASSES))[:, None]).float().mean().item()
    means = ", ".join(f"{values.mean().item():.2f}" for values in light)
    wanted = ", ".join(f"{value:.2f}" for value in learned.tolist())
    moved = (torch.stack(light) - light[0]).abs().max().item()
    expect(moved > ATOL, f"expected other images for another label, they differ by {moved:.1g} in brightness")
    expect(
        share >= _OBEYED,
        f"expected at least {_OBEYED:.0%} of its images nearest to the brightness of their class after a fit on images "
        f"of {wanted}, got {share:.0%} (means {means}); a preset quick.toml may train longer than tiny.toml",
    )
    return f"{share:.0%} of its images are nearest to the brightness of their class ({means} for {wanted})"


def _bad_requests(subject: GeneratorSubject) -> str:
    model, seeds, labels = subject.model, subject.seeds[:2], subject.labels[:2]
    init_images = subject.init_images[:2] if subject.spec.needs_init_images else None
    requests = {
        "no image": (seeds[:0], labels[:0], init_images if init_images is None else init_images[:0]),
        "two seeds and one label": (seeds, labels[:1], init_images),
        "labels that are none of the classes": (seeds, labels + len(CLASSES), init_images),
        "labels of another kind": (seeds, labels.bool(), init_images),
    }
    if init_images is not None:
        requests["no init_images"] = (seeds, labels, None)
        requests["init_images of another size"] = (seeds, labels, init_images[:, :, 1:])
    for what, (some, given, real) in requests.items():
        shared.expect_medzoo_error(what, functools.partial(model.sample, some, given, init_images=real))
    return f"refused with a MedzooError: {', '.join(requests)}"


def _save_and_load(subject: GeneratorSubject) -> str:
    state = {name: value.detach().cpu().contiguous() for name, value in subject.model.state_dict().items()}
    with global_seed(3, subject.device):
        loaded = subject.build()
    loaded.load_state_dict(load(save(state)))
    expect_equal(state, loaded.state_dict(), "a model that loaded them")
    before, after = subject.sample(), subject.sample(model=loaded)
    note = f"a model that loaded them gives other images: {_distance(before, after)}"
    expect(torch.equal(before, after), f"{note} {shared.LAYOUT if torch.allclose(before, after, atol=ATOL) else ''}")
    return "saved as safetensors and loaded into a fresh model: the same images"


def _distance(one: Tensor, other: Tensor) -> str:
    return f"they differ by up to {(one - other).abs().max().item():.2g}"


def _expect_close(one: Tensor, other: Tensor, when: str) -> None:
    apart = (one - other).abs().flatten(1).amax(dim=1)
    expect(bool((apart <= ATOL).all()), f"an image changed by {apart.max().item():.2g} (allowed {ATOL}) {when}")


_STAGES: tuple[Stage[GeneratorSubject], ...] = (
    Stage(checks={"spec": shared.spec, "registration": shared.registration}),
    Stage(checks={"preset": shared.preset}, required=True),
    Stage(checks={"build": shared.build}, required=True),
    Stage(
        checks={
            "fit": _fit,
            "fit repeats": shared.fit_repeats,
            "fit resumes": shared.fit_resumes,
            "fit on nothing": shared.fit_on_nothing,
            "weights": shared.weights,
        }
    ),
    Stage(checks={"images": _images}, required=True),
    Stage(
        checks={
            "seeds repeat": _seeds_repeat,
            "seeds differ": _seeds_differ,
            "rebatching": _rebatching,
            "labels": _labels,
            "combinations": _combinations,
            "init_images": _sources,
            "bad requests": _bad_requests,
            "label obedience": _label_obedience,
            "save and load": _save_and_load,
            "fit stops": _fit_stops,
            "label tokens": label_tokens,
            "attention maps": attention_maps,
            **BOUNDS,
        }
    ),
)
