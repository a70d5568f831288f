"""Requests to draw images: the command and the Python call that make them, and what came of them."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from medzoo.app.generators import GUIDANCE, STEPS, DrawableModel
from medzoo.app.jobs import Job, Jobs
from medzoo.app.paths import STATE, open_data
from medzoo.data.images import decode, depth_of, encode_png, highest_values, probe
from medzoo.data.pixels import is_color, to_gray
from medzoo.errors import ConfigError, DataError
from medzoo.report.page import PageImage, png_image
from medzoo.storage.files import make_folder, read_json, sha256_file, temporary_name, write_file

logger = logging.getLogger(__name__)

DRAW = "draw"
"""The kind of these jobs."""
IMAGES, REAL, NEAREST = "images", "real", "nearest.json"
MAX_IMAGES = 16
"""The most images of each class in one request."""

_UPLOADS = "uploads"
_ROWS = 4096  # real images compared at once


@dataclass(frozen=True, kw_only=True)
class DrawRequest:
    """What to draw: `n` images of each of `labels`; `steps` and `guidance` None for the model's own.

    With a `strength`, and by a generator without weights, images vary the real image in the folder `data`, a path
    relative to the served folder.
    """

    generator: str
    labels: tuple[str, ...]
    n: int
    seed: int
    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None
    data: str = ""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that are not the model's own, by dotted key."""
        given = {STEPS: self.steps, GUIDANCE: self.guidance}
        return {key: value for key, value in given.items() if value is not None}

    @property
    def gen(self) -> str:
        """The generator as `--gen` takes it, with its strength."""
        return self.generator if self.strength is None else f"{self.generator}@{self.strength:g}"

    def command(self, out: str) -> list[str]:
        """Return the arguments of `medzoo` that draw the images into the folder `out`."""
        words = ["sample", self.gen]
        for label in self.labels:
            words += ["--label", label]
        words += ["--n", str(self.n), "--seed", str(self.seed)]
        for key, value in self.settings.items():
            words += ["--set", f"{key}={value:g}"]
        if self.data:
            words += ["--data", self.data]
        return [*words, "--out", out]

    def line(self) -> str:
        """Return the command line that draws the images again, into the folder "images"."""
        return shlex.join(["medzoo", *self.command(IMAGES)])

    def python(self, index: int | None = None) -> str:
        """Return the Python code that draws the images again, and takes one of them."""
        load = [repr(self.gen)]
        if self.data:
            load.append(f"data={self.data!r}")
        if self.settings:
            load.append(f"settings={self.settings!r}")
        labels = list(self.labels) if len(self.labels) > 1 else self.labels[0]
        call = f"medzoo.load({', '.join(load)}).sample({labels!r}, n={self.n}, seed={self.seed})"
        chosen = "" if index is None else f"\nimage = images[{index}]"
        return f"import medzoo\n\nimages, labels = {call}{chosen}"


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """The real image nearest to a drawn one: its name, its class, and the correlation of both, from -1 to 1."""

    name: str
    label: str
    correlation: float
    image: PageImage


@dataclass(frozen=True, kw_only=True)
class DrawnImage:
    """A drawn image: its file's name, its place among all of the request, and the real image nearest to it."""

    name: str
    index: int
    label: str
    image: PageImage
    nearest: Nearest | None


def save_upload(root: Path, body: bytes) -> str:
    """Keep the pixels of an uploaded image, and return the name they are kept under.

    Nothing else of the file is kept, such as its name and what it says of a patient. Raises: DataError for what is no
    image, or a synthetic one; ResourceError.
    """
    folder = make_folder(root / STATE / _UPLOADS)
    given = temporary_name(folder / "upload")
    try:
        write_file(given, body)
        try:
            header = probe(given)
            if header.synthetic:
                raise DataError("this image is marked as synthetic", "give a real image")
            depth = 16
            if header.bits > 8 and header.gray and not header.format:
                [highest] = highest_values([given])
                if isinstance(highest, DataError):
                    raise highest
                depth = depth_of(highest)
            pixels = decode(given, depth=depth)
        except DataError as error:
            raise DataError(error.message.replace(str(given), "this file"), error.hint) from None
        if pixels.ndim == 3 and not is_color(pixels):
            pixels = to_gray(pixels)
        channels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        write_file(given, encode_png(channels))
        name = sha256_file(given)[:16]
        given.replace(folder / f"{name}.png")
        return name
    finally:
        given.unlink(missing_ok=True)


def upload_path(root: Path, name: str) -> Path:
    """Return the file of an upload. Raises: ConfigError if there is none of this name."""
    path = root / STATE / _UPLOADS / f"{name}.png"
    if len(name) != 16 or not name.isalnum() or not path.is_file():
        raise ConfigError("the uploaded image is gone", "choose it again")
    return path


def start_drawing(
    jobs: Jobs, model: DrawableModel, request: DrawRequest, *, upload: str = "", compare: str = ""
) -> Job:
    """Start a job that draws what is asked for.

    `upload` is the real image that a request with a strength varies. `compare` names a folder of real images, relative
    to the served one, among which the nearest to each drawn image is found.

    Raises: ConfigError for a request that cannot be taken; DataError for a folder that cannot; as `Jobs.start`.
    """
    if not request.labels:
        raise ConfigError("no class is chosen", "choose one or more")
    if unknown := [label for label in request.labels if label not in model.classes]:
        raise ConfigError(f"'{model.name}' has no class '{unknown[0]}'", f"it has {', '.join(model.classes)}")
    if not 1 <= request.n <= MAX_IMAGES:
        raise ConfigError(f"{request.n} images of each class are too few or too many", f"choose 1 to {MAX_IMAGES}")
    if request.steps is not None and not 1 <= request.steps <= 1000:
        raise ConfigError(f"{request.steps} steps are too few or too many", "choose 1 to 1000")
    if request.strength is not None and not model.varies_images:
        raise ConfigError(f"'{model.name}' does not vary real images", "choose strength 1, or another model")
    source = None
    if request.strength is not None or model.needs_images:
        if not upload:
            what = f"'{model.name}'" if model.needs_images else "a strength below 1"
            raise ConfigError(f"{what} varies a real image, and none is given", "choose an image")
        source = upload_path(jobs.root, upload)
    if compare:
        open_data(jobs.root, compare)
    asked = request

    def command(folder: str) -> list[str]:
        nonlocal asked
        if source is not None:
            asked = replace(request, data=f"{folder}/{REAL}")
            for label in request.labels:
                target = make_folder(jobs.root / asked.data / label) / "image.png"
                write_file(target, source.read_bytes())
        about["request"] = asdict(asked)
        about["nearest"] = compare or asked.data
        return asked.command(f"{folder}/{IMAGES}")

    about: dict[str, Any] = {}
    return jobs.start(DRAW, command, about=about)


def request_of(job: Job) -> DrawRequest | None:
    """Return what a job draws; None if its record cannot be understood."""
    try:
        values = dict(job.about["request"])
        return DrawRequest(**{**values, "labels": tuple(values["labels"])})
    except (KeyError, TypeError, ValueError):
        return None


def drawn_images(job: Job) -> list[DrawnImage]:
    """Return the images of a job that are there so far, in the order in which Python returns them."""
    request = request_of(job)
    folder = job.folder / IMAGES
    if request is None or not folder.is_dir():
        return []
    nearest = _nearest(job.folder / NEAREST)
    found = []
    for order, (label, files) in enumerate(_by_label(folder, request.labels)):
        for file in files:
            number = int(file.stem.rpartition("-")[2])
            name = file.relative_to(folder).as_posix()
            width = probe(file).width
            alt = f"Synthetic {label}, {number + 1} of {request.n}, by {request.gen}, seed {request.seed}"
            picture = png_image(file.read_bytes(), alt=alt, width=width)
            place = order * request.n + number
            found.append(DrawnImage(name=name, index=place, label=label, image=picture, nearest=nearest.get(name)))
    return found


def _by_label(folder: Path, labels: Sequence[str]) -> list[tuple[str, list[Path]]]:
    """Return the images of each folder, in the order of the request; a multi-label model has one for all labels."""
    places = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    order = {label: index for index, label in enumerate(labels)}
    places.sort(key=lambda path: order.get(path.name, len(order)))
    return [(path.name, sorted(path.glob("synthetic-*.png"))) for path in places]


def _nearest(path: Path) -> dict[str, Nearest]:
    try:
        rows: Mapping[str, Any] = read_json(path)
        return {
            name: Nearest(
                name=row["name"],
                label=row["label"],
                correlation=row["correlation"],
                image=PageImage(uri=row["uri"], alt=f"Real {row['label']}, the nearest", width=96),
            )
            for name, row in rows.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def find_nearest(images: Path, real: Path, *, progress: Callable[[int, int], None]) -> dict[str, dict[str, Any]]:
    """Return the real image nearest to each drawn one, by the correlation of gray thumbnails of 32 x 32 pixels.

    Raises: DataError for images that cannot be read.
    """
    import numpy as np

    from medzoo.data.dataset import open_dataset, open_unlabeled
    from medzoo.data.duplicates import standardized, thumbnails
    from medzoo.report.data.report import thumbnail

    drawn = open_unlabeled(images, as_class="drawn", nested=True, log=False)
    if drawn is None:
        return {}
    given = open_unlabeled(real, as_class="", skip_bad=True, log=False) or open_dataset(real, skip_bad=True, log=False)
    parts = list(given.parts().values())
    progress(0, len(parts))
    mine = standardized(thumbnails(drawn))
    best = np.full(len(drawn), -np.inf, np.float32)
    where = np.zeros((len(drawn), 2), np.int64)
    for number, part in enumerate(parts):
        rows = thumbnails(part)
        for start in range(0, len(rows), _ROWS):
            close = mine @ standardized(rows[start : start + _ROWS]).T
            index = close.argmax(axis=1)
            value = close[np.arange(len(drawn)), index]
            better = value > best
            best[better] = value[better]
            where[better, 0], where[better, 1] = number, index[better] + start
        progress(number + 1, len(parts))
    found = {}
    for row, name in enumerate(drawn.names):
        part = parts[where[row, 0]]
        index = int(where[row, 1])
        label = "|".join(part.classes[k] for k in np.flatnonzero(part.hot()[index]))
        picture = thumbnail(part.pixels(index), alt="")
        found[name] = {
            "name": part.names[index],
            "label": label or "image",
            "correlation": round(float(best[row]), 4),
            "uri": picture.uri,
        }
    return found
