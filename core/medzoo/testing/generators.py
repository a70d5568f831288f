"""The checks of a generator: its seeds, labels and init_images, and its images, which are looked at."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medzoo import config as settings
from medzoo.protocols import AttentionMaps, Generator, LabeledImages, LabelTokens
from medzoo.testing.fakes import BRIGHTNESS, CLASSES, FakeImages
from medzoo.testing.models import ATOL, BATCH, ModelSubject
from medzoo.testing.monitor import LEARNING
from medzoo.testing.recording_callback import RecordingCallback
from medzoo.testing.suite import CheckResult, expect, expect_medzoo_error, expect_tensor, global_seed
from medzoo.toolkit.nn.conditioning import null_label

if TYPE_CHECKING:
    import pytest

    from medzoo.specs import GeneratorSpec

_STRENGTH = "sampling.strength"
_OBEYED = 0.75
_DRAWN = 16


def check_generator(
    spec: GeneratorSpec, *, device: str = "cpu", overrides: Mapping[str, Any] | None = None
) -> list[CheckResult]:
    """Check the generator contract of `spec`, one result per check; no error of a plugin is raised here.

    It is built from its `tiny` preset, with `overrides` (key=value) for what no preset can know, for three classes,
    fitted on 24 made-up images and asked for images; where the spec is multi-label, once more with multi-hot labels,
    in the checks whose names begin with "multi-label". To see whether it obeys labels, it is fitted on plain black,
    gray and white images, with its preset `quick` if there is one; where it varies images, it varies those of another
    class too. Checks that cannot apply are left out: fitting for a spec that is not trainable, init_images for one that
    needs none, variations for one without varies_images, and all that follows a failure to build or to give images.
    """
    return GeneratorSubject.suite(spec, device, overrides).results()


def assert_generator(spec: GeneratorSpec, *, device: str = "cpu", overrides: Mapping[str, Any] | None = None) -> None:
    """Assert that `spec` passes every check. Raises: AssertionError, with a line for each failed check."""
    GeneratorSubject.suite(spec, device, overrides).assert_passed()


def generator_checks(
    spec: GeneratorSpec, *, device: str = "cpu", overrides: Mapping[str, Any] | None = None
) -> pytest.MarkDecorator:
    """Return a decorator that makes one test per check of a generator; the test calls its argument `check`.

    ```python
    @generator_checks(SPEC)
    def test_the_contract(check):
        check()
    ```
    """
    return GeneratorSubject.suite(spec, device, overrides).as_tests()


class GeneratorSubject(ModelSubject[Generator]):
    """A generator under test."""

    kind = "generator"
    protocol = Generator
    methods = ("fit", "sample", "state_dict", "load_state_dict", "image")
    required = ("preset", "build", "images")

    def checks(self) -> dict[str, Callable[[], str | None]]:
        """Return the checks by name, in order."""
        return {
            **self.first_checks,
            "images": self._check_images,
            "seeds repeat": self._check_seeds_repeat,
            "seeds differ": self._check_seeds_differ,
            "rebatching": self.check_rebatching,
            "labels": self._check_labels,
            "combinations": self._check_combinations,
            "init_images": self._check_init_images,
            "variations": self._check_variations,
            "bad requests": self._check_bad_requests,
            "class conditioning": self._check_class_conditioning,
            "save and load": self.check_save_and_load,
            "fit stops": self.check_fit_stops,
            "unlabeled images": self._check_unlabeled_images,
            "label tokens": self._check_label_tokens,
            "attention maps": self._check_attention_maps,
            **self.limits,
        }

    @property
    def trainable(self) -> bool:
        """As its spec says."""
        return bool(self.spec.trainable)

    def recorder(self, *, restored: Mapping[str, Tensor] | None = None, stop: int | None = None) -> RecordingCallback:
        """Return a callback and checkpoint store for `fit`, which checks an image of each class at each preview."""

        def check_preview(sample: Callable[[Sequence[int], Tensor], Tensor]) -> None:
            self._expect_images(sample(range(len(CLASSES)), self.class_labels.clone()), count=len(CLASSES))

        return RecordingCallback(self.kept, restored=restored, stop=stop, check_preview=check_preview)

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
            model.fit(FakeImages(self.image) if data is None else data, seed=5, callback=run, checkpoints=run)

    def answers(self, indices: Sequence[int] = range(BATCH), *, model: Generator | None = None) -> dict[str, Tensor]:
        """Return the images of these indices."""
        return {"images": self.sample(indices, model=model)}

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
        labels = (self.labels if labels is None else labels)[chosen]
        given, real, kept = labels.clone(), None, None
        if self.spec.needs_init_images or init_images is not None:
            kept = (self.init_images if init_images is None else init_images)[chosen]
            real = kept.clone()
        with self.observed("sample"):
            images = (model or self.model).sample([self.seeds[k] for k in chosen], given, init_images=real)
        self._expect_images(images, count=len(chosen))
        expect(torch.equal(labels, given), "sample changed the labels it was given")
        if real is not None and kept is not None:
            shared = images.untyped_storage().data_ptr() == real.untyped_storage().data_ptr()
            expect(torch.equal(real, kept), "sample changed the init_images it was given")
            expect(not shared, "expected new images, sample gave the init_images' own memory back")
        return images.cpu()

    def _expect_images(self, images: object, *, count: int) -> None:
        """Raise ContractError unless `images` are `count` images of the right shape, dtype and range."""
        shape = (count, self.image.channels, self.image.size, self.image.size)
        found = expect_tensor(images, "images", shape=shape)
        low, high = found.min().item(), found.max().item()
        expect(low >= 0.0 and high <= 1.0, f"expected pixels in [0, 1], got {low:.3g} to {high:.3g}")

    def check_fit(self) -> str | None:
        if not self.trainable:
            return None
        run = self.fit_first()
        step, total, _ = run.steps[-1]
        expected = f"expected the last callback.on_step_end to be step {total} of {total}"
        expect(step == total, f"{expected}, got {step} of {total}")
        counts = f"{run.previews} previews, {len(run.notes)} notes, {len(run.warnings)} warnings"
        return f"{len(run.steps)} steps, {len(run.checkpoints)} checkpoints, {counts}"

    def _check_unlabeled_images(self) -> str | None:
        if not self.spec.takes_unlabeled:
            return None
        data = FakeImages(self.image)
        data.labels[::3] = null_label(self.image).numpy()
        model = self.build()
        self.fit(model, self.recorder(), data=data)
        strange = [name for name, value in model.state_dict().items() if not bool(torch.isfinite(value).all())]
        expect(not strange, f"expected finite weights, '{strange[0] if strange else ''}' has others")
        self.sample(model=model)
        return f"fitted to {len(data)} images, a third of them of the null label, it gives images of each class"

    def _check_images(self) -> str:
        for count in (BATCH, 5, 1):
            self.sample(range(count))
        return f"{BATCH}, 5 and 1 images asked for and given: float32, finite, in [0, 1]"

    def _check_seeds_repeat(self) -> str:
        first = self.sample()
        with global_seed(1, self.device):
            second = self.sample()
        apart = (first - second).abs().max().item()
        expect(torch.equal(first, second), f"the same seeds gave other images: they differ by up to {apart:.2g}")
        return "the same seeds give the same images, whatever the global random state"

    def _check_seeds_differ(self) -> str | None:
        if self.spec.needs_init_images:
            return None  # the source already distinguishes images, so a seed need not
        images = self.sample(labels=self.labels[:1].expand_as(self.labels)).flatten(1)
        least = (torch.cdist(images, images, p=float("inf")) + torch.eye(BATCH)).min().item()
        expect(least > ATOL, f"expected another image for each seed, two differ by {least:.1g}")
        return f"{BATCH} seeds of one label give {BATCH} images"

    def _check_labels(self) -> str:
        whole = self.sample()
        for kept in (torch.arange(BATCH) % 2 == 0, torch.arange(BATCH) % 2 == 1):
            labels = self.labels.clone()
            labels[~kept] = self.other_labels[~kept]
            _expect_close(whole[kept], self.sample(labels=labels)[kept], "when the labels of other images changed")
        return "an image's label is its own"

    def _check_combinations(self) -> str | None:
        if not self.multi_label:
            return None
        rows = {"no label": (0, 0, 0), "the first": (1, 0, 0), "the second": (0, 1, 0), "both": (1, 1, 0)}
        images = {name: self.sample([0], labels=torch.tensor([row]).float()) for name, row in rows.items()}
        if torch.allclose(images["the first"], images["the second"], rtol=0.0, atol=1e-6):
            return "labels make no difference"
        for (one, first), (two, second) in itertools.combinations(images.items(), 2):
            expect(not torch.equal(first, second), f"expected another image for other labels, {one} gave that of {two}")
        return "no label, each of two and both give four images"

    def _check_init_images(self) -> str | None:
        if not self.spec.needs_init_images:
            return None
        self._check_own_sources(self.model)
        return "an image's source is its own"

    def _check_variations(self) -> str | None:
        spec = self.spec
        if not spec.varies_images:
            return None
        default = settings.flatten(spec.config()).get(_STRENGTH)
        found = "none" if default is None else f"{default!r}"
        expect(default == 1.0, f"expected a setting {_STRENGTH} with the default 1.0, found {found}")
        expect(not spec.needs_init_images, "it needs init_images at every strength: leave varies_images out")
        for strength in (0.0, -0.5, 1.5):
            expect_medzoo_error(f"{_STRENGTH} = {strength}", functools.partial(self._at, strength, self.model))
        real, full, half = self.init_images, self._at(1.0, self.model), self._at(0.5, self.model)
        same = torch.equal(self.sample(), self.sample(init_images=real, model=full))
        expect(same, "expected the images of no strength at strength 1, whatever the init_images")
        expect_medzoo_error("no init_images at strength 0.5", lambda: self.sample(model=half))
        whole = self.sample(init_images=real, model=half)
        with global_seed(4, self.device):
            again = self.sample(init_images=real, model=half)
        expect(torch.equal(whole, again), "the same seeds and init_images gave other images at strength 0.5")
        split = torch.cat([self.sample(part, init_images=real, model=half) for part in (range(1), range(1, BATCH))])
        _expect_close(whole, split, f"at strength 0.5, 1 + {BATCH - 1} instead of {BATCH} at once")
        self._check_own_sources(half)
        return self._check_nearness()

    @functools.cached_property
    def _learner(self) -> Generator:
        return self.learner()

    def _check_nearness(self) -> str:
        """Check that a small strength changes an image less than a large one: plain images of another class."""
        learner = self._learner if self.trainable else self.model
        shape = (learner.image.channels, learner.image.size, learner.image.size)
        light = torch.tensor(BRIGHTNESS).roll(1) / 255.0
        sources = light.view(-1, 1, 1, 1).expand(-1, *shape).contiguous()
        apart = {}
        for strength in (0.1, 0.9):
            varying = self._at(strength, learner)
            with self.observed(LEARNING):
                images = varying.sample(self.seeds[: len(CLASSES)], self.class_labels.clone(), init_images=sources)
            apart[strength] = (images.cpu() - sources).abs().mean().item()
        near, far = apart.values()
        expect(
            near < far,
            f"expected images nearer to their sources at strength 0.1 than at 0.9, the means apart are {near:.3f} and "
            f"{far:.3f}",
        )
        return f"strength 1 is as none; from plain sources of another class it is {near:.3f} at 0.1, {far:.3f} at 0.9"

    def _at(self, strength: float, model: Generator) -> Generator:
        """Build a generator with the weights and the image size of `model` and this strength. Raises: MedzooError."""
        preset = "tiny" if model.image.size == self.image.size else "quick"
        overrides = {**(self.overrides or {}), _STRENGTH: strength}
        resolved = settings.resolve(self.spec.config, presets=self.spec.presets, preset=preset, overrides=overrides)
        varying = self._built(resolved.value, model.image)
        varying.load_state_dict(model.state_dict())
        return varying

    def _check_own_sources(self, model: Generator) -> None:
        """Check that an image depends on its own init_image, and on that."""
        whole = self.sample(init_images=self.init_images, model=model)
        for kept in (torch.arange(BATCH) % 2 == 0, torch.arange(BATCH) % 2 == 1):
            init_images = torch.where(kept.view(-1, 1, 1, 1), self.init_images, 1.0 - self.init_images)
            images = self.sample(init_images=init_images, model=model)
            _expect_close(whole[kept], images[kept], "when the init_images of other images changed")
            ignored = (whole[~kept] == images[~kept]).flatten(1).all(dim=1)
            expect(not bool(ignored.any()), "an image stayed the same when its source was inverted")

    def _check_bad_requests(self) -> str:
        seeds, labels = self.seeds[:2], self.labels[:2]
        real = self.init_images[:2] if self.spec.needs_init_images else None
        requests: dict[str, tuple[Sequence[int], Tensor, Tensor | None]] = {
            "no image": (seeds[:0], labels[:0], None if real is None else real[:0]),
            "two seeds and one label": (seeds, labels[:1], real),
            "labels that are none of the classes": (seeds, labels + len(CLASSES), real),
            "labels of another kind": (seeds, labels.bool(), real),
        }
        if real is not None:
            requests["no init_images"] = (seeds, labels, None)
            requests["init_images of another size"] = (seeds, labels, real[:, :, 1:])
        for what, (some, given, init_images) in requests.items():
            expect_medzoo_error(what, functools.partial(self.model.sample, some, given, init_images=init_images))
        return f"refused with a MedzooError: {', '.join(requests)}"

    def _check_class_conditioning(self) -> str | None:
        if not self.trainable or self.spec.needs_init_images:
            return None
        learner = self._learner
        light = torch.stack(
            [
                learner.sample(range(_DRAWN), label.expand(_DRAWN, *label.shape).clone()).flatten(1).mean(dim=1)
                for label in self.class_labels
            ]
        )
        learned = torch.tensor(BRIGHTNESS) / 255.0
        nearest = (light.cpu()[:, :, None] - learned).abs().argmin(dim=2)
        share = (nearest == torch.arange(len(CLASSES))[:, None]).float().mean().item()
        means = ", ".join(f"{values.mean().item():.2f}" for values in light)
        wanted = ", ".join(f"{value:.2f}" for value in learned.tolist())
        moved = (light - light[0]).abs().max().item()
        expect(moved > ATOL, f"expected other images for another label, they differ by {moved:.1g} in brightness")
        expect(
            share >= _OBEYED,
            f"expected at least {_OBEYED:.0%} of its images nearest to the brightness of their class after a fit on "
            f"images of {wanted}, got {share:.0%} (means {means}); a preset quick.toml may train longer than tiny.toml",
        )
        return f"{share:.0%} of its images are nearest to the brightness of their class ({means} for {wanted})"

    def _check_label_tokens(self) -> str | None:
        generator, labels = self.model, self.class_labels
        if not isinstance(generator, LabelTokens):
            return None
        tokens = _tokens(generator, labels)
        backwards = _tokens(generator, labels.flip(0)).flip(0)
        expect(torch.allclose(tokens, backwards, atol=ATOL), "the tokens of a label depend on the labels beside it")
        apart = torch.cdist(tokens.flatten(1), tokens.flatten(1)) + torch.eye(len(labels))
        expect(bool(apart.min() > 0), "expected other tokens for another label, two are equal")
        if generator.no_label is not None:
            shape, none = tokens.shape[1:], _tokens(generator, generator.no_label[None]).shape[1:]
            expect(none == shape, f"expected tokens of shape {tuple(shape)} for no label, got {tuple(none)}")
        return f"{tokens.shape[1]} of width {tokens.shape[2]}, float32, other ones for each label"

    def _check_attention_maps(self) -> str | None:
        generator = self.model
        if not isinstance(generator, AttentionMaps):
            return None
        before = self.sample()
        images, found = generator.attention_maps(self.seeds, self.labels.clone())
        self._expect_images(images, count=BATCH)
        expect(torch.equal(images.cpu(), before), "expected the images that sample gives")
        expect(torch.equal(self.sample(), before), "sample gives other images afterwards")
        tokens = _tokens(generator, self.labels).shape[1]
        maps = expect_tensor(found, "maps", shape=(BATCH, tokens, "h", "w"))
        off = (maps.sum(dim=1) - 1.0).abs().max().item()
        fits = bool((maps >= 0).all()) and off <= ATOL
        expect(fits, f"expected maps that sum to 1 over tokens, they are off by {off:.2g}")
        return f"maps of {maps.shape[2]} x {maps.shape[3]} that sum to 1 over {tokens} tokens, and sample's images"


def _tokens(generator: LabelTokens, labels: Tensor) -> Tensor:
    """Return the tokens of `labels` on the CPU, checked for shape and dtype."""
    tokens = generator.label_tokens(labels.clone())
    return expect_tensor(tokens, "tokens", shape=(len(labels), "tokens", "width")).cpu()


def _expect_close(one: Tensor, other: Tensor, when: str) -> None:
    apart = (one - other).abs().max().item()
    expect(apart <= ATOL, f"an image changed by {apart:.2g} (allowed {ATOL}) {when}")
