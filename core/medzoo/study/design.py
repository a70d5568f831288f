"""Design a reading study: pick images of both sets, balanced, and put them into an order that tells nothing."""

from __future__ import annotations

import logging
import math
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medzoo.data.dataset import Dataset
from medzoo.data.duplicates import THRESHOLD, standardized, thumbnails
from medzoo.data.image_facts import fingerprint_of
from medzoo.data.pixels import CROPS, is_color, prepare
from medzoo.data.reading import Reading
from medzoo.errors import ConfigError, DataError
from medzoo.evaluation.image_sets import UNLABELED, EvaluationSet, common_image, open_sets
from medzoo.evaluation.results import FAKE, REAL
from medzoo.study.key import CLASS, ORIGIN, TASKS, Study, StudyImage, Trial, keyed, keyed_random

logger = logging.getLogger(__name__)

MIN_SIDE, MAX_SIDE = 16, 1024

# An order whose repeats come soonest after what they repeat is the worst; the best of so many is taken.
_ORDERS = 200


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """What to ask readers: `per_class` images of each class and set, or as many pairs, and which `tasks`.

    `repeats` is the share of them that are shown twice. `size` is the side in pixels at which images are shown, by
    default the smaller one of the two sets', and `crop` as in `pixels.prepare`, of both sets.
    """

    real: Path
    fake: Path
    per_class: int = 20
    tasks: tuple[str, ...] = TASKS
    pairs: bool = False
    repeats: float = 0.1
    seed: int = 0
    size: int | None = None
    crop: str = "none"
    title: str = ""
    classes: tuple[str, ...] | None = None
    skip_bad: bool = False
    masks: str = "ignore"
    reading: Reading = Reading()

    def check(self) -> None:
        """Raise ConfigError for what cannot be asked."""
        if not self.tasks or (unknown := [task for task in self.tasks if task not in TASKS]):
            raise ConfigError(
                f"--task cannot take '{', '.join(unknown) if self.tasks else ''}'", f"it takes {', '.join(TASKS)}"
            )
        if self.pairs and self.tasks != (ORIGIN,):
            raise ConfigError("--pairs asks which of two images is synthetic, and nothing else", "leave out --task")
        if self.per_class < 2:
            raise ConfigError(
                f"--per-class {self.per_class} is too small", "use 2 or more; `medzoo study power` says how many"
            )
        if not 0 <= self.repeats <= 0.5:
            raise ConfigError(
                f"--repeats {self.repeats:g} is not between 0 and 0.5", "0.1 shows one image in ten twice"
            )
        if self.size is not None and not MIN_SIDE <= self.size <= MAX_SIDE:
            raise ConfigError(f"--size {self.size} is not between {MIN_SIDE} and {MAX_SIDE}")
        if self.crop not in CROPS:
            raise ConfigError(f"--crop cannot take '{self.crop}'", f"it takes {', '.join(CROPS)}")


@dataclass(frozen=True, kw_only=True, eq=False)
class DesignedStudy:
    """A study, its page not yet written, and the pixels of its images: uint8 (N, C, side, side)."""

    study: Study
    pixels: np.ndarray


def design_study(request: StudyRequest, *, secret: str = "") -> DesignedStudy:
    """Pick the images of a study and order them; the same request, sets and secret give the same study.

    Without a `secret`, a new one is drawn.
    Raises: ConfigError; DataError for sets that cannot be read, share an image, or have too few images of a class.
    """
    request.check()
    secret = secret or secrets.token_hex(32)
    sets = open_sets(
        {REAL: request.real, FAKE: request.fake},
        classes=request.classes,
        skip_bad=request.skip_bad,
        masks=request.masks,
        reading=request.reading,
    )
    classes = _classes(sets)
    tasks = tuple(task for task in TASKS if task in request.tasks)
    if CLASS in tasks and len(classes) < 2:
        tasks = tuple(task for task in tasks if task != CLASS)
        if not tasks:
            raise ConfigError("--task class needs two classes or more in both sets", "give class folders")
        logger.info("readers are not asked for the class: the sets have no classes in common to choose from")
    image, sentence = common_image(sets, size=request.size)
    if not MIN_SIDE <= image.size <= MAX_SIDE:
        image = replace(image, size=min(max(image.size, MIN_SIDE), MAX_SIDE))
        sentence = f"all images are shown at {image.size}x{image.size} pixels"
    channels = 3 if any(one.data.channels == 3 for one in sets.values()) else 1
    logger.info(sentence.replace("compared", "shown"))
    prepared = {
        role: _Prepared(one.data, size=image.size, channels=channels, crop=request.crop) for role, one in sets.items()
    }
    _check_disjoint(prepared, sets)
    picked = {role: _pick(request, secret, role, own, classes) for role, own in prepared.items()}
    images = [
        (role, index, label) for role, found in picked.items() for label, places in found.items() for index in places
    ]
    trials = _trials(request, secret, images)
    order = list(dict.fromkeys(place for trial in trials for place in trial.images))
    new_place = {place: number for number, place in enumerate(order)}
    pixels = np.stack([prepared[images[place][0]].pixels(images[place][1]) for place in order])
    shown = tuple(
        StudyImage(
            synthetic=role == FAKE,
            label=label,
            name=sets[role].data.names[index],
            fingerprint=fingerprint_of(pixels[number]),
        )
        for number, (role, index, label) in enumerate(images[place] for place in order)
    )
    study = Study(
        id=keyed(secret, "study", _design(request)).hex()[:16],
        secret=secret,
        design=_design(request),
        tasks=tasks,
        classes=classes,
        pairs=request.pairs,
        side=image.size,
        images=shown,
        trials=tuple(replace(trial, images=tuple(new_place[place] for place in trial.images)) for trial in trials),
        page_sha256="",
        warnings=tuple(_warnings(sets, image.size, pixels, shown)),
    )
    return DesignedStudy(study=study, pixels=pixels)


def _design(request: StudyRequest) -> dict[str, object]:
    """Return what the author chose, as JSON takes it."""
    given = {name: getattr(request, name) for name in request.__dataclass_fields__}
    reading = {name: getattr(request.reading, name) for name in request.reading.__dataclass_fields__}
    listed = {name: list(given[name]) if given[name] is not None else None for name in ("tasks", "classes")}
    return {**given, **listed, "real": str(request.real), "fake": str(request.fake), "reading": reading}


def _classes(sets: Mapping[str, EvaluationSet]) -> tuple[str, ...]:
    """Return the classes that both sets have images of; raises DataError where there are none."""
    counts = {role: one.data.counts() for role, one in sets.items()}
    unlabeled = [role for role, found in counts.items() if UNLABELED in found]
    if len(unlabeled) == 1:
        other = FAKE if unlabeled == [REAL] else REAL
        raise DataError(
            f"the {unlabeled[0]} images have no class folders, and the {other} ones have",
            "give class folders in both, or a folder of images in both",
        )
    shared = tuple(name for name in counts[REAL] if counts[REAL][name] and counts[FAKE].get(name))
    if not shared:
        raise DataError(
            f"no class has both real and synthetic images: {', '.join(counts[REAL])}; {', '.join(counts[FAKE])}",
            "give the folders of both sets the same names",
        )
    for role, found in counts.items():
        if others := [name for name in found if found[name] and name not in shared]:
            logger.info(f"left out, as only the {role} images have them: {', '.join(others)}")
    return shared


class _Prepared:
    """The images of one set as readers see them, with the fingerprints of their pixels."""

    def __init__(self, data: Dataset, *, size: int, channels: int, crop: str) -> None:
        self.data = data
        self._size, self._channels, self._crop = size, channels, crop
        self.fingerprints = [fingerprint_of(self._prepared(pixels)) for pixels in data.all_pixels()]

    def pixels(self, index: int) -> np.ndarray:
        """Return image `index`: uint8 (C, size, size)."""
        return self._prepared(self.data.pixels(index))

    def _prepared(self, pixels: np.ndarray) -> np.ndarray:
        return prepare(pixels, size=self._size, channels=self._channels, crop=self._crop)


def _check_disjoint(prepared: Mapping[str, _Prepared], sets: Mapping[str, EvaluationSet]) -> None:
    """Raise DataError if an image is in both sets."""
    real = {digest: index for index, digest in enumerate(prepared[REAL].fingerprints)}
    both = [(real[digest], index) for index, digest in enumerate(prepared[FAKE].fingerprints) if digest in real]
    if both:
        first, second = sets[REAL].data.names[both[0][0]], sets[FAKE].data.names[both[0][1]]
        many = f"{len(both)} images have" if len(both) > 1 else "an image has"
        raise DataError(
            f"{many} the same pixels in both sets, such as {first} and {second}: nobody could tell them apart",
            "leave them out of one of the sets",
        )


def _pick(
    request: StudyRequest, secret: str, role: str, prepared: _Prepared, classes: Sequence[str]
) -> dict[str, list[int]]:
    """Pick `per_class` images of each class: of different pixels, and of different patients as far as there are."""
    data = prepared.data
    labels = np.array(data.classes)[data.labels]
    found = {}
    for label in classes:
        own = keyed_random(secret, request.seed, "pick", role, label).permutation(np.flatnonzero(labels == label))
        distinct = list({prepared.fingerprints[index]: int(index) for index in own[::-1]}.values())[::-1]
        if len(distinct) < request.per_class:
            raise DataError(
                f"class '{label}' has {len(distinct)} different {role} images, and --per-class asks for "
                f"{request.per_class}",
                f"--per-class {len(distinct)}, or give more images",
            )
        first: list[int] = []
        others: list[int] = []
        seen: Counter[str] = Counter()
        for index in distinct:
            patient = data.patients[index] if data.patients is not None else ""
            (others if patient and seen[patient] else first).append(index)
            seen[patient] += 1
        found[label] = [*first, *others][: request.per_class]
    return found


def _trials(request: StudyRequest, secret: str, images: Sequence[tuple[str, int, str]]) -> list[Trial]:
    """Return the trials in the order in which they are shown, images by place in `images`."""
    random = keyed_random(secret, request.seed, "order")
    strata: dict[tuple[str, str], list[int]] = {}
    for place, (role, _, label) in enumerate(images):
        strata.setdefault((label, role), []).append(place)
    shown: dict[object, list[tuple[int, ...]]]
    if request.pairs:
        shown = {}
        for label in dict.fromkeys(label for label, _ in strata):
            couples = list(zip(strata[label, REAL], strata[label, FAKE], strict=True))
            # The synthetic image stands at the right in half of the pairs of a class, to one.
            right = random.permutation(len(couples)) < (len(couples) + int(random.integers(2))) // 2
            shown[label] = [pair if at_right else pair[::-1] for pair, at_right in zip(couples, right, strict=True)]
    else:
        shown = {key: [(place,) for place in places] for key, places in strata.items()}
    twice = [
        own[k] for own in shown.values() for k in random.permutation(len(own))[: _repeated(request.repeats, len(own))]
    ]
    once = [each for own in shown.values() for each in own if each not in twice]
    order = _best_order(twice, once, random)
    first: dict[tuple[int, ...], str] = {}
    trials = []
    for number, each in enumerate(order):
        name = keyed(secret, "trial", number).hex()[:12]
        trials.append(Trial(id=name, images=each, repeat_of=first.get(each, "")))
        first.setdefault(each, name)
    return trials


def _repeated(share: float, count: int) -> int:
    """Return how many of `count` images of one class and set are shown twice."""
    return max(1, round(share * count)) if share else 0


def _best_order(
    twice: Sequence[tuple[int, ...]], once: Sequence[tuple[int, ...]], random: np.random.Generator
) -> list[tuple[int, ...]]:
    """Return everything in random order, what is shown twice in both halves and as far apart as chance gives."""
    half = max(0, (len(once) - 1) // 2)
    best: list[tuple[int, ...]] = []
    widest = -1
    for _ in range(_ORDERS if twice else 1):
        mixed = [once[k] for k in random.permutation(len(once))]
        start, end = [*twice, *mixed[:half]], [*twice, *mixed[half:]]
        order = [start[k] for k in random.permutation(len(start))] + [end[k] for k in random.permutation(len(end))]
        places: dict[tuple[int, ...], int] = {}
        gap = len(order)
        for place, each in enumerate(order):
            if each in places:
                gap = min(gap, place - places[each])
            places[each] = place
        if gap > widest:
            best, widest = order, gap
    return best


def _warnings(
    sets: Mapping[str, EvaluationSet], side: int, pixels: np.ndarray, images: Sequence[StudyImage]
) -> Iterator[str]:
    """Yield a sentence for each property of the sets by which readers might tell them apart, whatever they show."""
    sides = {role: one.formats.side for role, one in sets.items()}
    if sides[REAL] != sides[FAKE]:
        larger, smaller = (REAL, FAKE) if sides[REAL] > sides[FAKE] else (FAKE, REAL)
        yield (
            f"the {larger} images are larger ({sides[larger]} pixels) than the {smaller} ones ({sides[smaller]}): all "
            f"are shown at {side} pixels, resized by the same rule, so the {larger} ones may look sharper or smoother"
        )
    for role, one in sets.items():
        squared = sum(count for (width, height), count in one.formats.sizes.items() if width != height)
        if squared:
            yield f"{squared} {role} images are not square and change proportions, which --crop center or pad keeps"
    codecs = {role: one.formats.codecs for role, one in sets.items() if one.formats.codecs != ("array",)}
    if len(set(codecs.values())) > 1:
        named = ", ".join(f"{role} {'/'.join(names)}" for role, names in codecs.items())
        yield f"the files' formats differ ({named}), and lossy ones leave traces that readers may learn"
    if pixels.shape[1] == 3:
        color = {
            role: np.mean(
                [
                    is_color(each.transpose(1, 2, 0))
                    for each, one in zip(pixels, images, strict=True)
                    if one.synthetic == (role == FAKE)
                ]
            )
            for role in (REAL, FAKE)
        }
        if (color[REAL] > 0.5) != (color[FAKE] > 0.5):
            gray = REAL if color[FAKE] > 0.5 else FAKE
            yield f"the {gray} images are gray and the others in color, which tells them apart at a glance"
    vectors = _vectors(pixels)
    synthetic = np.array([one.synthetic for one in images])
    alike = vectors[synthetic] @ vectors[~synthetic].T
    if copies := int((alike.max(axis=1, initial=-1) > THRESHOLD).sum()):
        yield (
            f"{copies} synthetic images are nearly the same as a real one of the study (correlation of 32x32 "
            f"thumbnails above {THRESHOLD:g}): readers cannot tell copies from what they copy"
        )
    brightness = pixels.reshape(len(pixels), -1).mean(axis=1)
    pooled = math.sqrt((brightness[synthetic].var(ddof=1) + brightness[~synthetic].var(ddof=1)) / 2)
    apart = float(brightness[synthetic].mean() - brightness[~synthetic].mean())
    if pooled and abs(apart) > pooled:
        yield (
            f"the synthetic images are {'brighter' if apart > 0 else 'darker'} on average, by {abs(apart):.0f} of 255 "
            "gray levels, more than single images vary: readers may tell them by that alone"
        )


def _vectors(pixels: np.ndarray) -> np.ndarray:
    """Return gray thumbnails of zero mean and unit norm: float32 (N, 1024), as `duplicates.standardized`."""
    shown = pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)
    count = len(pixels)
    data = Dataset(
        path=Path("study"),
        classes=("all",),
        labels=np.zeros(count, np.int64),
        names=tuple(map(str, range(count))),
        array=shown,
    )
    return standardized(thumbnails(data))
