"""Images without labels, from which a conditional diffusion model learns through its null label."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from medzoo.config import Resolved
from medzoo.data.dataset import Dataset, describe_blank, open_unlabeled
from medzoo.data.duplicates import resemble, thumbnails
from medzoo.data.reading import Reading
from medzoo.errors import ConfigError, DataError
from medzoo.plugins.lookup import Plugins
from medzoo.protocols import LabeledImages
from medzoo.runs.record import read_run
from medzoo.specs import GeneratorSpec, ImageSpec, ModelSpec
from medzoo.toolkit.nn.conditioning import null_label

logger = logging.getLogger(__name__)

UNLABELED = "unlabeled"
"""The key of images without labels in what config.json and run.json say of a training's data."""


class WithUnlabeled:
    """`labeled` images, then `unlabeled` ones, whose labels are replaced by the null label (`LabeledImages`)."""

    def __init__(self, labeled: LabeledImages, unlabeled: LabeledImages, *, image: ImageSpec) -> None:
        self.classes = labeled.classes
        null = null_label(image).numpy()
        self.labels = np.concatenate([labeled.labels, np.stack([null] * len(unlabeled)).astype(labeled.labels.dtype)])
        self._labeled, self._unlabeled = labeled, unlabeled

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return image `index`: uint8 (C, size, size)."""
        own = len(self._labeled)
        return self._labeled[index] if index < own else self._unlabeled[index - own]


def training_view(data: Dataset, unlabeled: Dataset | None, image: ImageSpec, *, crop: str) -> LabeledImages:
    """Return the images as a model of `image` is fitted to them, those without labels last. Raises: as `view`."""
    labeled = data.view(image, crop=crop)
    if unlabeled is None:
        return labeled
    shape = (len(unlabeled), len(data.classes)) if image.multi_label else (len(unlabeled),)
    of_no_class = np.zeros(shape, np.float32 if image.multi_label else np.int64)
    seen = unlabeled.with_depth(data.depth).with_window(data.window, whose=str(data.path))
    known = replace(seen, classes=data.classes, labels=of_no_class)
    return WithUnlabeled(labeled, known.view(image, crop=crop), image=image)


def open_unlabeled_images(
    path: Path, data: Dataset, *, skip_bad: bool = False, masks: str = "ignore", reading: Reading = Reading()
) -> Dataset:
    """Open all images in a folder and its subfolders, whatever these are called, but for those that `data` labels.

    Raises:
        DataError: `path` is not a folder, or holds no other images; one cannot be read, or is held out by `data`.
    """
    if not path.is_dir():
        why = "is not a folder" if path.exists() else "does not exist"
        raise DataError(f"{path} {why}", "give --unlabeled a folder of images")
    reading = replace(reading, label_tag="")
    found = open_unlabeled(path, nested=True, skip_bad=skip_bad, masks=masks, reading=reading, log=False)
    if found is None:
        raise DataError(f"{path} holds no images", "give --unlabeled a folder of images")
    return _without_known(found, data)


def check_takes_unlabeled(spec: ModelSpec[Any], config: Resolved[Any], plugins: Plugins) -> None:
    """Check that a model of `spec` can be fitted to images without labels. Raises: ConfigError."""
    if not isinstance(spec, GeneratorSpec) or not spec.takes_unlabeled:
        known = sorted(name for name, one in plugins.generators.items() if one.takes_unlabeled)
        raise ConfigError(
            f"'{spec.name}' cannot be trained on images without labels",
            f"leave --unlabeled out; {', '.join(known)} can",
        )
    if getattr(getattr(config.value, "diffusion", None), "label_dropout", None) == 0:
        raise ConfigError(
            "diffusion.label_dropout = 0 leaves out the null label, through which images without labels are learned",
            "--set diffusion.label_dropout=0.1, or leave --unlabeled out",
        )


def _without_known(unlabeled: Dataset, data: Dataset) -> Dataset:
    """Return the unlabeled images that are not among the labeled ones; log what is used and what is left out.

    Raises:
        DataError: some are images that `data` holds out, or nearly so; none is left.
    """
    path, digests = unlabeled.path, unlabeled.fingerprints()
    rows = thumbnails(unlabeled) if data.held_out else None
    for part, images in data.held_out.items():
        held_out = frozenset(images.fingerprints())
        same = np.array([digest in held_out for digest in digests])
        if rows is not None:
            same |= resemble(rows, thumbnails(images))
        if same.any():
            first = unlabeled.names[int(same.argmax())]
            raise DataError(
                f"{same.sum()} of the {len(unlabeled)} images in {path} show the same as {part} images of {data.path}, "
                f"such as {first}",
                "leave them out: a model is not evaluated on images it was trained on",
            )
    labeled = frozenset(data.fingerprints())
    chosen = [index for index, digest in enumerate(digests) if digest not in labeled]
    if not chosen:
        raise DataError(f"all {len(unlabeled)} images in {path} are among the labeled ones", "leave --unlabeled out")
    if len(chosen) < len(unlabeled):
        logger.info(f"left out {len(unlabeled) - len(chosen)} images in {path} that are among the labeled ones")
    found = unlabeled.subset(chosen)
    nested = sum("/" in name for name in found.names)
    where = f", {nested} of them in its subfolders" if nested else ""
    logger.info(f"also training on {len(found)} images without labels in {path}{where}")
    for name, reason in unlabeled.bad:
        logger.warning(f"left out {name}: {reason}")
    if made := found.synthetic:
        logger.warning(f"{len(made)} of the {len(found)} images without labels are synthetic, such as {min(made)}")
    if blank := found.blank():
        logger.warning(f"of the {len(found)} images without labels, {describe_blank(blank)}")
    return found


def identity_of(unlabeled: Dataset) -> dict[str, Any]:
    """Return what a run's plan and its model say of the images without labels: their number and fingerprint."""
    lines = "\n".join(sorted(unlabeled.fingerprints()))
    return {"size": len(unlabeled), "fingerprint": hashlib.sha256(lines.encode()).hexdigest()}


def record_of(unlabeled: Dataset) -> dict[str, Any]:
    """Return what run.json says of the images without labels."""
    found = {**identity_of(unlabeled), "path": str(unlabeled.path.resolve())}
    return {**found, "reading": asdict(unlabeled.reading)} if unlabeled.has_volumes else found


def reopen_unlabeled(run: Path, plan: Mapping[str, Any], data: Dataset) -> Dataset | None:
    """Return the images without labels that a finished run was trained on; None if there were none.

    Raises:
        DataError: the run is not finished, or its folder of unlabeled images has changed.
    """
    stated = plan["data"].get(UNLABELED)
    if stated is None:
        return None
    record = read_run(run)
    if record is None:
        raise DataError(
            f"{run} was trained on images without labels too, whose folder the finished run states",
            "finish the run first",
        )
    recorded = record["data"][UNLABELED]
    path = Path(recorded["path"])
    found = open_unlabeled_images(path, data, skip_bad=True, reading=Reading.of(recorded.get("reading")))
    if identity_of(found) != stated:
        raise DataError(f"{run} was trained on other images without labels than {path} holds", "restore that folder")
    return found
