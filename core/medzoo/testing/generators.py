"""The checks of a generator, in the order in which they are made."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load, save
from torch import Tensor

from medzoo import config as settings
from medzoo.protocols import Generator
from medzoo.testing.inspection import attention_maps, label_tokens
from medzoo.testing.results import CheckResult, assert_passed, run_check
from medzoo.testing.subject import ATOL, BATCH, Recorder, Subject, expect, expect_equal, global_seed

if TYPE_CHECKING:
    from medzoo.specs import GeneratorSpec


def check_generator(spec: GeneratorSpec, *, device: str = "cpu", overrides: Sequence[str] = ()) -> list[CheckResult]:
    """What `spec` keeps and breaks of the generator contract, one result a check; nothing a plugin does raises here.

    It is built from its `tiny` preset, with `overrides` (key=value) for what no preset can know, for three classes,
    fitted on 24 made-up images and asked for pictures; where the spec is multi-label, once more with multi-hot labels,
    in the checks whose names begin with "multi-label". Checks that cannot apply are left out: fitting for a spec that
    is not trainable, sources for one that needs none, and all that follows a failure to build or to give pictures.
    """
    results: list[CheckResult] = []
    for multi_label in (False, True) if spec.multi_label else (False,):
        subject = Subject(spec, device=device, overrides=overrides, multi_label=multi_label)
        for checks, required in _STAGES:
            ran = [_run(name, check, subject) for name, check in checks.items()]
            found = [result for result in ran if result is not None]
            results += found
            if required and not all(result.passed for result in found):
                return results
    return results


def assert_generator(spec: GeneratorSpec, *, device: str = "cpu", overrides: Sequence[str] = ()) -> None:
    """Nothing, if `spec` passes every check.

    Raises:
        AssertionError: one line for each check that failed.
    """
    assert_passed(f"generator '{spec.name}'", check_generator(spec, device=device, overrides=overrides))


def _run(name: str, check: Callable[[Subject], str | None], subject: Subject) -> CheckResult | None:
    """The result of one check, or None where it does not apply."""
    return run_check(f"multi-label {name}" if subject.multi_label else name, lambda: check(subject), subject.device)


def _preset(subject: Subject) -> str | None:
    known = settings.preset_names(subject.spec.presets)
    expect("tiny" in known, f"expected a preset tiny.toml for tests, found: {', '.join(known) or 'none'}")
    spec = subject.spec
    subject.configure(settings.resolve(spec.config, presets=spec.presets, preset="tiny", overrides=subject.overrides))
    if subject.multi_label:
        return None  # it is the same one
    return f"tiny.toml resolves: {subject.image.size} pixels, {subject.image.channels} channels"


def _build(subject: Subject) -> str:
    generator = subject.generator = subject.build()
    for method in ("fit", "sample", "state_dict", "load_state_dict", "image"):
        expect(hasattr(generator, method), f"expected a Generator, {type(generator).__name__} has no '{method}'")
    expect(isinstance(generator, Generator), f"expected a Generator, got {type(generator).__name__}")
    expect(generator.image == subject.image, f"expected the ImageSpec it was built for, its image is {generator.image}")
    other = subject.build()
    expect_equal(generator.state_dict(), other.state_dict(), "a second build from the same global seed")
    return f"a {type(generator).__name__} of {sum(value.numel() for value in generator.state_dict().values())} numbers"


def _weights(subject: Subject) -> str:
    state, fresh = subject.generator.state_dict(), subject.build().state_dict()
    for name, value in state.items():
        expect(isinstance(value, Tensor), f"expected tensors in state_dict, '{name}' is a {type(value).__name__}")
        allowed = value.dtype == torch.float32 or not (value.is_floating_point() or value.is_complex())
        expect(allowed, f"expected float32 weights, '{name}' is {value.dtype}")
        expect(bool(torch.isfinite(value).all()), f"expected finite weights, '{name}' has others")
    changed = sorted(state.keys() ^ fresh.keys())
    expect(not changed, f"state_dict has other keys than in a fresh model: {', '.join(changed[:3])}")
    return f"{len(state)} tensors, float32, the same keys in a fresh model"


def _fit(subject: Subject) -> str | None:
    if not subject.spec.trainable:
        return None
    report = subject.first = Recorder(subject)
    subject.fit(subject.generator, report)
    expect(bool(report.steps), "fit made no call of report.progress")
    bad = [f"{k} = {v}" for _, _, values in report.steps for k, v in values.items() if not math.isfinite(v)]
    expect(not bad, f"expected finite loss values, got {bad[0] if bad else ''}")
    steps = [step for step, _, _ in report.steps]
    expect(steps == sorted(set(steps)), f"expected rising steps in report.progress, got {steps}")
    step, total, _ = report.steps[-1]
    expect(step == total, f"expected the last report.progress to be step {total} of {total}, got {step} of {total}")
    told = f"{report.previews} previews, {len(report.notes)} notes, {len(report.warnings)} warnings"
    return f"{len(steps)} steps, {len(report.checkpoints)} checkpoints, {told}"


def _fit_repeats(subject: Subject) -> str | None:
    if not subject.spec.trainable:
        return None
    again = subject.build()
    with global_seed(1, subject.device):
        subject.fit(again, Recorder(subject))
    expect_equal(subject.generator.state_dict(), again.state_dict(), "a second fit from the same seed")
    return "the same seed gives the same weights, whatever the global random state"


def _fit_resumes(subject: Subject) -> str | None:
    unfinished = [(step, state) for step, total, state in subject.first.checkpoints if step < total]
    if not subject.spec.trainable or not unfinished:
        return None
    step, state = unfinished[0]
    resumed = subject.build()
    report = Recorder(subject, restored=state)
    with global_seed(2, subject.device):
        subject.fit(resumed, report)
    first = report.steps[0][0] if report.steps else "none"
    expect(first == step + 1, f"expected a restored fit to go on at step {step + 1}, its first step was {first}")
    expect_equal(subject.generator.state_dict(), resumed.state_dict(), f"a fit resumed at step {step}")
    return f"a fit resumed at step {step} ends with the same weights"


def _fit_stops(subject: Subject) -> str | None:
    unfinished = [(step, state) for step, total, state in subject.first.checkpoints if step < total]
    if not subject.spec.trainable or not unfinished or subject.multi_label:
        return None  # where a fit stops has nothing to do with the kind of its labels
    step, state = unfinished[0]
    stopped, restored = subject.build(), subject.build()
    report, again = Recorder(subject, stop=step), Recorder(subject, restored=state, stop=step)
    subject.fit(stopped, report)
    last = report.steps[-1][0] if report.steps else "none"
    expect(last == step, f"expected a fit asked to stop after step {step} to end there, its last step was {last}")
    subject.sample(generator=stopped)
    subject.fit(restored, again)
    made = len(again.steps)
    expect(not made, f"expected no step of a fit restored at step {step} and asked to stop after it, it made {made}")
    expect_equal(stopped.state_dict(), restored.state_dict(), f"a fit restored at step {step} from one stopped there")
    return f"a fit stopped after step {step} ends there, and its checkpoint gives the same weights"


def _images(subject: Subject) -> str:
    for count in (BATCH, 5, 1):
        subject.sample(range(count))
    return f"{BATCH}, 5 and 1 images asked for and given: float32, finite, in [0, 1]"


def _seeds_repeat(subject: Subject) -> str:
    first = subject.sample()
    with global_seed(1, subject.device):
        second = subject.sample()
    expect(torch.equal(first, second), f"the same seeds gave other images: {_distance(first, second)}")
    return "the same seeds give the same images, whatever the global random state"


def _seeds_differ(subject: Subject) -> str | None:
    if subject.spec.needs_sources:
        return None  # the source already tells images apart, so a seed need not
    images = subject.sample(labels=subject.labels[:1].expand_as(subject.labels)).flatten(1)
    apart = torch.cdist(images, images, p=float("inf")) + torch.eye(BATCH)
    expect(bool(apart.min() > ATOL), f"expected another image for each seed, two differ by {apart.min().item():.1g}")
    return f"{BATCH} seeds of one label give {BATCH} images"


def _rebatching(subject: Subject) -> str:
    whole = subject.sample()
    split = torch.cat([subject.sample(range(1)), subject.sample(range(1, BATCH))])
    backwards = subject.sample(range(BATCH - 1, -1, -1)).flip(0)
    for way, images in (("1 + 7", split), ("in reverse order", backwards)):
        _expect_close(whole, images, f"drawn {way} instead of {BATCH} at once (the tiny preset must compute in fp32)")
    return f"{BATCH} at once, 1 + 7 and reversed agree within {ATOL}"


def _labels(subject: Subject) -> str:
    whole = subject.sample()
    for kept in (torch.arange(BATCH) % 2 == 0, torch.arange(BATCH) % 2 == 1):
        labels = subject.labels.clone()
        labels[~kept] = subject.other_labels[~kept]
        _expect_close(whole[kept], subject.sample(labels=labels)[kept], "when the labels of other images changed")
    return "an image's label is its own"


def _combinations(subject: Subject) -> str | None:
    if not subject.multi_label:
        return None
    rows = {"no label": (0, 0, 0), "the first": (1, 0, 0), "the second": (0, 1, 0), "both": (1, 1, 0)}
    images = {name: subject.sample([0], labels=torch.tensor([row]).float()) for name, row in rows.items()}
    if torch.allclose(images["the first"], images["the second"], rtol=0.0, atol=1e-6):
        return "labels make no difference"
    for (one, first), (other, second) in itertools.combinations(images.items(), 2):
        expect(not torch.equal(first, second), f"expected another image for other labels, {one} gave that of {other}")
    return "no label, each of two and both give four images"


def _sources(subject: Subject) -> str | None:
    if not subject.spec.needs_sources:
        return None
    whole = subject.sample()
    for kept in (torch.arange(BATCH) % 2 == 0, torch.arange(BATCH) % 2 == 1):
        sources = torch.where(kept.view(-1, 1, 1, 1), subject.sources, 1.0 - subject.sources)
        images = subject.sample(sources=sources)
        _expect_close(whole[kept], images[kept], "when the sources of other images changed")
        ignored = (whole[~kept] == images[~kept]).flatten(1).all(dim=1)
        expect(not bool(ignored.any()), "an image stayed the same when its source was inverted")
    return "an image's source is its own"


def _save_and_load(subject: Subject) -> str:
    state = {name: value.detach().cpu().contiguous() for name, value in subject.generator.state_dict().items()}
    with global_seed(3, subject.device):
        loaded = subject.build()
    loaded.load_state_dict(load(save(state)))
    expect_equal(state, loaded.state_dict(), "a model that loaded them")
    before, after = subject.sample(), subject.sample(generator=loaded)
    expect(torch.equal(before, after), f"a model that loaded them gives other images: {_distance(before, after)}")
    return "saved as safetensors and loaded into a fresh model: the same images"


def _global_state(subject: Subject) -> str:
    touched = ", ".join(sorted(subject.touched))
    expect(not touched, f"expected random draws from the seeds alone, but global state changed: {touched}")
    return "torch's, numpy's and Python's global random states stay as they were"


def _distance(one: Tensor, other: Tensor) -> str:
    return f"they differ by up to {(one - other).abs().max().item():.2g}"


def _expect_close(one: Tensor, other: Tensor, when: str) -> None:
    apart = (one - other).abs().flatten(1).amax(dim=1)
    expect(bool((apart <= ATOL).all()), f"an image changed by {apart.max().item():.2g} (allowed {ATOL}) {when}")


_STAGES: tuple[tuple[Mapping[str, Callable[[Subject], str | None]], bool], ...] = (
    ({"preset": _preset}, True),
    ({"build": _build}, True),
    ({"fit": _fit, "fit repeats": _fit_repeats, "fit resumes": _fit_resumes, "weights": _weights}, False),
    ({"images": _images}, True),
    (
        {
            "seeds repeat": _seeds_repeat,
            "seeds differ": _seeds_differ,
            "rebatching": _rebatching,
            "labels": _labels,
            "combinations": _combinations,
            "sources": _sources,
            "save and load": _save_and_load,
            "fit stops": _fit_stops,
            "label tokens": label_tokens,
            "attention maps": attention_maps,
            "global random state": _global_state,
        },
        False,
    ),
)
