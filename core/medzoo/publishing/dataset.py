"""Push an augmented folder to the Hub as a dataset: its synthetic images, their labels and lineage, and a card."""

from __future__ import annotations

import hashlib
import io
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medzoo._version import __version__
from medzoo.data.images import decode, encode_png
from medzoo.data.metadata import LABELS, METADATA, read_metadata
from medzoo.errors import ConfigError, DataError, UnknownName
from medzoo.evaluation.memorization import CopyCheck
from medzoo.generation.plan import label_folder
from medzoo.generation.run import MODELS
from medzoo.hub.registry import WEIGHTS, Registry, load_registry
from medzoo.models.folder import read_description
from medzoo.models.labels import split_label
from medzoo.publishing.checks import find_local_identifiers
from medzoo.publishing.upload import README, RECORD, Repository, check_privacy, published_commits, read_remote
from medzoo.runs.record import check_finished
from medzoo.storage.files import sha256_file, write_json_atomic

if TYPE_CHECKING:
    import datasets

logger = logging.getLogger(__name__)

FORMATS = ("parquet", "imagefolder")
SPLIT = "train"
"""The only split: synthetic images belong into no test set."""

_SHARD = 256 << 20
_ROW_GROUP = 100
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_DISCLAIMER = (
    "The synthetic images are for research on data augmentation and not for diagnosis, treatment or any other "
    "clinical decision."
)


@dataclass(frozen=True, kw_only=True)
class PublishedImage:
    """An image of a dataset: where it is in the augmented folder, its name in the dataset, and what its row says.

    A real image of more than 8 bits is read as one of `depth` bits.
    """

    path: Path
    sha256: str
    name: str
    depth: int
    labels: tuple[str, ...]
    row: Mapping[str, str | int | float | None]


@dataclass(frozen=True, kw_only=True)
class DatasetPackage:
    """A checked dataset: `files` by name, for `repo`. Once published, `commit` holds them, of which `sent` were sent.

    `counts` are images by class and origin: {"benign": {"synthetic": 12}}.
    """

    folder: Path
    repo: str
    format: str
    counts: Mapping[str, Mapping[str, int]]
    files: Mapping[str, bytes]
    commit: str = ""
    sent: tuple[str, ...] = ()


def push_dataset(
    folder: str | Path,
    *,
    repo: str,
    license: str = "",
    title: str = "",
    format: str = "parquet",
    include_originals: bool = False,
    originals_license: str = "",
    accept_memorization: bool = False,
    create: bool = False,
    private: bool = False,
    force: bool = False,
    dry_run: bool = False,
) -> DatasetPackage:
    """Push an augmented folder to the Hugging Face Hub as the dataset `repo`, in one commit.

    Synthetic images are published with their class, generator, the hash of its weights, seed and strength. The names of
    real images, which may identify patients, are not. `license` is that of the dataset; without it, that of the
    generators where all of them are registered under one. Real originals are left out, unless `include_originals`;
    they, and images made from real ones (variations, `classic`, `duplicate`), need `originals_license`, the license
    under which the real images may be shared. Both formats are read by `datasets.load_dataset(repo)`, with classes as
    ClassLabel; "imagefolder" keeps one PNG for each image. `create` creates a missing repository, `private` makes
    that one private, `force` overwrites a card that was changed on the Hub. With `dry_run`, nothing is sent.

    Example:
        >>> package = medzoo.push_dataset("augmented", repo="ORG/udder-1000", license="cc-by-4.0", dry_run=True)
        >>> package.counts

    Raises:
        DataError: the folder is no finished augmentation, or its images must not be published.
        ConfigError: a license is missing or does not fit; the extra `datasets` is not installed.
        HubError: no token; the Hub cannot be reached or refuses, or holds a changed card and not `force`.
    """
    check_privacy(create=create, private=private)
    if not repo:
        raise ConfigError("no repository is given for the dataset", "pass --repo ORG/NAME")
    if format not in FORMATS:
        raise UnknownName("format", format, FORMATS)
    folder = Path(folder)
    record = _finished(folder)
    depth = record["data"].get("summary", {}).get("depth") or 16
    images = _images(folder, originals=include_originals, depth=depth)
    _check_real(images, included=include_originals, license=originals_license)
    generators = _generators(record, load_registry())
    _check_memorization(generators, accepted=accept_memorization)
    license = _license(generators, license, originals=originals_license)
    classes = sorted({name for label in record["counts"] for name in split_label(label) if name})
    counts = {
        name: dict(Counter(str(image.row["origin"]) for image in images if name in image.labels)) for name in classes
    }
    try:
        import datasets  # noqa: F401
    except ImportError:
        raise ConfigError("--dataset needs the package `datasets`", "pip install 'medzoo[datasets]'") from None
    files = dict((_shards if format == "parquet" else _imagefolder)(images, classes))
    card = _card(
        record,
        generators,
        title=title or repo.rpartition("/")[2],
        repo=repo,
        license=license,
        originals_license=originals_license,
        path=f"data/{SPLIT}-*" if format == "parquet" else f"{SPLIT}/**",
        counts=counts,
        total=len(images),
    )
    if found := sorted(find_local_identifiers(card)):
        raise DataError(f"the card would contain '{found[0]}' of this machine", "rename the class or the generator")
    package = DatasetPackage(
        folder=folder, repo=repo, format=format, counts=counts, files={README: card.encode(), **files}
    )
    return package if dry_run else _publish(package, create=create, private=private, force=force)


def _publish(package: DatasetPackage, *, create: bool, private: bool, force: bool) -> DatasetPackage:
    """Push the package in one commit, or in none if the Hub has all of it. Raises: HubError."""
    repository = Repository(package.repo, kind="dataset")
    bases = published_commits(package.folder, package.repo)
    remote = read_remote(repository, package.files, bases=bases, create=create, private=private, force=force)
    count = sum(sum(own.values()) for own in package.counts.values())
    commit, sent = repository.commit(
        package.files, onto=remote, message=f"Publish {count} images", replaced=("data", SPLIT)
    )
    write_json_atomic(package.folder / RECORD, {"repo": package.repo, "commit": commit})
    return replace(package, commit=commit, sent=sent)


def _finished(folder: Path) -> Mapping[str, Any]:
    """Return the record of a finished augmentation. Raises: DataError."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", "give the folder that `medzoo augment` filled")
    record, damaged = check_finished(folder)
    if record is None or record.get("job") != "augment":
        raise DataError(
            f"{folder} is not a finished augmentation", "give the folder of a finished `medzoo augment --out DIR`"
        )
    if METADATA in damaged:
        raise DataError(f"{folder / METADATA} is missing or was changed", "run the same `medzoo augment` again")
    return record


def _images(folder: Path, *, originals: bool, depth: int) -> list[PublishedImage]:
    """Return the images to publish, in the order of metadata.csv. Raises: DataError if none is synthetic."""
    found, real = [], 0
    for name, row in read_metadata(folder).items():
        label = row.get(LABELS, row.get("label", ""))
        labels = tuple(filter(None, split_label(label)))
        facts: dict[str, str | int | float | None] = {"origin": row["origin"]}
        if row["origin"] == "real":
            if not originals:
                continue
            # Its own name may identify a patient.
            real += 1
            target = f"{label_folder(label)}/real-{real:06d}.png"
        else:
            target = name
        facts |= {
            "generator": row["generator"] or None,
            "weights_sha256": row["weights_sha256"] or None,
            "seed": int(row["seed"]) if row["seed"] else None,
            "strength": float(row["strength"]) if row.get("strength") else None,
            "from_real": row["origin"] != "real" and bool(row["source_image"]),
        }
        found.append(
            PublishedImage(path=folder / name, sha256=row["sha256"], name=target, depth=depth, labels=labels, row=facts)
        )
    if not any(map(_made, found)):
        raise DataError(f"{folder / METADATA} lists no synthetic image", "give the folder of a finished augmentation")
    if other := next((image.path for image in found if _made(image) and image.path.suffix != ".png"), None):
        raise DataError(f"{other} is not a PNG", "augment into PNG files to publish them as a dataset")
    return found


def _made(image: PublishedImage) -> bool:
    return image.row["origin"] != "real"


def _check_real(images: Sequence[PublishedImage], *, included: bool, license: str) -> None:
    """Check that what shows real images has a license to be shared. Raises: ConfigError."""
    if license:
        return
    if included:
        raise ConfigError(
            "real images are included, but not under which license", "pass --originals-license, such as cc-by-4.0"
        )
    varied = Counter(str(image.row["generator"]) for image in images if image.row["from_real"])
    if varied:
        listed = ", ".join(f"{count} by {name}" for name, count in varied.items())
        raise ConfigError(
            f"images made from real ones show them: {listed}",
            "pass --originals-license if the real images may be shared, or augment from noise (no @STRENGTH)",
        )


@dataclass(frozen=True, kw_only=True)
class _Generator:
    """A generator of the folder: what is known of it. `check` is its memorization check, None where it had none."""

    name: str
    plugin: str
    weights_sha256: str
    id: str = ""
    license: str = ""
    repo: str = ""
    check: CopyCheck | None = None
    trained_on: Mapping[str, int] | None = None


def _generators(record: Mapping[str, Any], registry: Registry) -> list[_Generator]:
    """Return the generators that made images, with what the registry and their own description say of them."""
    found = []
    for name, facts in record["plan"]["generators"].items():
        sha256 = record["weights"].get(name, "")
        generator = _Generator(name=name, plugin=facts["plugin"], weights_sha256=sha256)
        for entry in registry.entries if sha256 else ():
            if any((file.name, file.sha256) == (WEIGHTS, sha256) for file in entry.files):
                generator = replace(generator, id=entry.name, license=entry.license, repo=entry.repo)
        description = _description(record, name, sha256)
        found.append(
            replace(
                generator,
                check=CopyCheck.of(description.get("notes", {})),
                trained_on=description.get("data", {}).get("counts"),
            )
        )
    return found


def _description(record: Mapping[str, Any], name: str, sha256: str) -> Mapping[str, Any]:
    """Return the config.json of a model that is still where it was and has the same weights, else {}."""
    folder = Path(record.get(MODELS, {}).get(name, "."))
    weights = folder / WEIGHTS
    if not sha256 or not weights.is_file() or sha256_file(weights) != sha256:
        return {}
    return read_description(folder)


def _check_memorization(generators: Sequence[_Generator], *, accepted: bool) -> None:
    for generator in generators:
        if generator.check is not None and generator.check.failed and not accepted:
            raise DataError(
                f"'{generator.name}' failed its memorization check: its images repeat training images "
                f"({generator.check.metric})",
                "use another generator, or pass --accept-memorization, which the card then states",
            )


def _license(generators: Sequence[_Generator], given: str, *, originals: str) -> str:
    """Return the license of the dataset. Raises: ConfigError if it is not known, or a source does not allow it."""
    sources = {generator.name: generator.license for generator in generators if generator.license}
    if originals:
        sources["the real images"] = originals
    known = sorted({license.lower() for license in sources.values()})
    if not given:
        unknown = [generator.name for generator in generators if not generator.license and generator.weights_sha256]
        if len(known) != 1 or unknown:
            stated = f": its sources have {' and '.join(known)}" if known else ""
            stated = f": that of '{unknown[0]}' is not known" if unknown else stated
            raise ConfigError(f"the dataset has no license{stated}", "pass --license, such as cc-by-4.0")
        return known[0]
    for name, license in sources.items():
        terms, own = license.lower().split("-"), given.lower().split("-")
        if "nd" in terms:
            raise ConfigError(f"{name}: {license} does not allow adapted images to be shared", "use another generator")
        if "nc" in terms and "nc" not in own:
            raise ConfigError(
                f"{name}: {license} does not allow commercial use, but {given} does", f"pass --license {license}"
            )
        if "sa" in terms and own != terms:
            raise ConfigError(f"{name}: {license} asks for the same license, not {given}", f"pass --license {license}")
    return given


def _png(image: PublishedImage) -> bytes:
    """Return the file that is published: a synthetic one as it is, with its marks; of a real one, the pixels alone.

    Raises: DataError for a file that is missing, or not as metadata.csv says.
    """
    data = image.path.read_bytes() if image.path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != image.sha256:
        raise DataError(f"{image.path} is missing or was changed", "run the same `medzoo augment` again")
    if _made(image):
        return data
    pixels = decode(image.path, depth=image.depth)
    return encode_png(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _imagefolder(images: Sequence[PublishedImage], classes: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the files of an imagefolder: images in class folders, and metadata.parquet, which knows the ClassLabel."""
    for image in images:
        yield f"{SPLIT}/{image.name}", _png(image)
    rows = [{"file_name": image.name, **_values(image, classes)} for image in images]
    yield f"{SPLIT}/metadata.parquet", _parquet(rows, _features("file_name", classes, images))


def _shards(images: Sequence[PublishedImage], classes: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield parquet files of about 256 MB that hold the images."""
    shards: list[list[dict[str, Any]]] = [[]]
    size = 0
    for image in images:
        data = _png(image)
        if size and size + len(data) > _SHARD:
            shards.append([])
            size = 0
        size += len(data)
        shards[-1].append({"image": {"bytes": data, "path": Path(image.name).name}, **_values(image, classes)})
    features = _features("image", classes, images)
    for number, rows in enumerate(shards):
        yield f"data/{SPLIT}-{number:05d}-of-{len(shards):05d}.parquet", _parquet(rows, features)


def _values(image: PublishedImage, classes: Sequence[str]) -> dict[str, Any]:
    """Return the columns beside the image; label is the only label, where each image has one."""
    numbers = [classes.index(label) for label in image.labels]
    return {"label": numbers[0] if len(numbers) == 1 else None, "labels": numbers, **image.row}


def _features(first: str, classes: Sequence[str], images: Sequence[PublishedImage]) -> datasets.Features:
    """Return the columns, by which `load_dataset` knows the classes."""
    import datasets

    names = datasets.ClassLabel(names=list(classes))
    single = all(len(image.labels) == 1 for image in images)
    label = {"label": names} if single else {"labels": datasets.List(names)}
    kind = datasets.Image() if first == "image" else datasets.Value("string")
    return datasets.Features({first: kind, **label, **{name: datasets.Value(kind) for name, kind in _COLUMNS.items()}})


def _parquet(rows: Sequence[Mapping[str, Any]], features: datasets.Features) -> bytes:
    """Return a parquet file of the columns that `features` names."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist(list(rows), schema=features.arrow_schema)
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, row_group_size=_ROW_GROUP)
    return buffer.getvalue()


_COLUMNS: Mapping[str, str] = {
    "origin": "string",
    "generator": "string",
    "weights_sha256": "string",
    "seed": "int64",
    "strength": "float64",
    "from_real": "bool",
}


def _card(
    record: Mapping[str, Any],
    generators: Sequence[_Generator],
    *,
    title: str,
    repo: str,
    license: str,
    originals_license: str,
    path: str,
    counts: Mapping[str, Mapping[str, int]],
    total: int,
) -> str:
    """Return the dataset card in Markdown with the Hub's front matter."""
    from huggingface_hub import DatasetCardData

    front = DatasetCardData(
        license=license,
        pretty_name=title,
        task_categories=["image-classification"],
        size_categories=next((name for bound, name in _SIZES if total < bound), "1M<n<10M"),
        tags=["medical-imaging", "data-augmentation", "synthetic", "medzoo"],
        configs=[{"config_name": "default", "data_files": [{"split": SPLIT, "path": path}]}],
    ).to_yaml()
    origins = sorted({origin for own in counts.values() for origin in own}, reverse=True)
    rows = [[name, *(own.get(origin, 0) for origin in origins)] for name, own in counts.items()]
    made = [_generator_row(generator, record) for generator in generators]
    policy = record.get("policy") or {}
    verdict = policy.get("verdict") or (
        "Whether these images help a classifier was not measured; `medzoo tune` and `medzoo experiment` measure it."
    )
    checks = [_check_line(generator, record) for generator in generators]
    real = (
        f"The real images are shared under {originals_license}, as plain pixels under new names."
        if "real" in origins
        else f"Images made from real ones show them; those may be shared under {originals_license}."
        if originals_license
        else "No real image is included."
    )
    return f"""---
{front}
---

# {title}

Synthetic medical images, made by `medzoo augment` {record["medzoo"]}.

**{_DISCLAIMER}**

{_table(["class", *origins], rows)}

```python
from datasets import load_dataset

images = load_dataset("{repo}", split="{SPLIT}")
```

Use them to train, beside real images, and never to test. Every synthetic image carries a machine-readable mark, which
`medzoo identify FILE` shows.

## How they were made

{_table(["generator", "model", "weights (sha256)", "license", "share"], made)}

Each class was filled up to {record["plan"]["to"]} images, with seed {record["seeds"]["seed"]}. The column `seed` gives
that of each image, by which the same weights and medzoo {record["medzoo"]} draw it again.

{real}

## Memorization

{chr(10).join(checks)}

## Verdict

{verdict}

## Limits

Labels are those the generators were asked for; nobody has checked that an image shows what its label says. Generators
repeat the devices, the annotations and the biases of the images they were trained on.

Published with medzoo {__version__}.
"""


def _generator_row(generator: _Generator, record: Mapping[str, Any]) -> list[str]:
    model = f"`{generator.id}`" if generator.id else f"`{generator.plugin}`"
    share = str(record["plan"]["generators"][generator.name].get("share", "1"))
    sha256 = f"`{generator.weights_sha256[:16]}`" if generator.weights_sha256 else "none"
    return [f"`{generator.name}`", model, sha256, generator.license or "not stated", share]


def _check_line(generator: _Generator, record: Mapping[str, Any]) -> str:
    trained = f" (trained on {sum(generator.trained_on.values())} images)" if generator.trained_on else ""
    if not generator.weights_sha256:
        return f"- `{generator.name}` has no weights: it makes its images from the real ones."
    if generator.check is None:
        return f"- `{generator.name}`{trained}: no memorization check is recorded with its weights; its card may tell."
    verdict = "FAILED: its images repeat training images" if generator.check.failed else "passed"
    return f"- `{generator.name}`{trained}: {verdict} ({generator.check.metric})."


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(value) for value in line) + " |" for line in lines)
