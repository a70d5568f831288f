"""Damaged images, fingerprints, subsets, and what a model sees of a dataset."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers.image_sets import noise, write_csv, write_folder
from PIL import Image

from medzoo.data import dataset as data
from medzoo.data.dataset import Dataset, describe_blank, open_dataset
from medzoo.data.images import Header
from medzoo.data.pixels import prepare
from medzoo.errors import DataError, UnknownName
from medzoo.protocols import LabeledImages
from medzoo.specs import ImageSpec

# Unreadable files


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Class folders in which two of six files are damaged: one in its header, one in its last bytes."""
    write_folder(tmp_path, {"a": 4, "b": 2}, side=40)
    (tmp_path / "a" / "001.png").write_bytes(b"")
    cut = tmp_path / "b" / "000.png"
    cut.write_bytes(cut.read_bytes()[:-200])
    return tmp_path


def test_open_dataset_invalid_header_raises(damaged: Path) -> None:
    with pytest.raises(DataError, match=r"001\.png is empty") as caught:
        open_dataset(damaged)
    assert "--skip-bad" in caught.value.hint


def test_verify_finds_truncated_image(damaged: Path) -> None:
    (damaged / "a" / "001.png").unlink()
    found = open_dataset(damaged)
    with pytest.raises(DataError, match=r"b/000\.png cannot be read: image file is truncated"):
        found.verify()
    (damaged / "a" / "002.png").write_bytes(b"changed since")
    with pytest.raises(DataError, match=r"a/002\.png .*\(and 1 other files\)"):
        found.verify()
    assert len(found.subset([0]).verify()) == 1


def test_open_dataset_skip_bad_lists_bad_files(damaged: Path) -> None:
    found = open_dataset(damaged, skip_bad=True)
    assert found.counts() == {"a": 3, "b": 1}
    assert [name for name, _ in found.bad] == ["a/001.png", "b/000.png"]
    assert "0 bytes" in found.bad[0][1]
    assert "truncated" in found.bad[1][1]
    assert found.verify().bad == found.bad
    for file in damaged.rglob("*.png"):
        file.write_bytes(b"gone")
    with pytest.raises(DataError, match="none of its 6 images can be read"):
        open_dataset(damaged, skip_bad=True)


# Datasets


def test_fingerprints_depend_on_pixels_not_files(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "png", {"a": 2, "b": 1})
    found = open_dataset(root)
    copy = tmp_path / "bmp"
    for file in root.rglob("*.png"):
        target = copy / file.relative_to(root).with_suffix(".bmp")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).save(target)
    assert open_dataset(copy).fingerprints() == found.fingerprints()
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in found.fingerprints())
    assert len(set(found.fingerprints())) == 3
    # The same bytes in another shape are another image.
    arrays = [noise(4, 9), noise(4, 9).reshape(9, 4)]
    digests = [Dataset(**fields(array[None])).fingerprints()[0] for array in arrays]
    assert digests[0] != digests[1]


def fields(array: np.ndarray, labels: list[int] | None = None) -> dict[str, object]:
    """What a dataset of two classes in memory is made from."""
    return {
        "path": Path("memory"),
        "classes": ("a", "b"),
        "labels": np.array(labels if labels is not None else [0] * len(array), np.int64),
        "names": tuple(str(index) for index in range(len(array))),
        "array": array,
    }


def test_fingerprint_depends_on_labels_but_not_order() -> None:
    array = noise(3, 6, 6)
    base = Dataset(**fields(array, [0, 0, 1]))
    assert len(base.fingerprint()) == 64
    assert Dataset(**fields(array[[2, 0, 1]], [1, 0, 0])).fingerprint() == base.fingerprint()
    assert Dataset(**fields(array, [0, 1, 0])).fingerprint() != base.fingerprint()
    assert base.subset([0, 1]).fingerprint() != base.fingerprint()


def test_fingerprints_decode_images_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = open_dataset(write_folder(tmp_path, {"a": 3}))
    digests = found.fingerprints()
    monkeypatch.setattr(data, "read_files", lambda *_, **__: pytest.fail("decoded again"))
    assert found.fingerprints() == digests
    assert found.fingerprint()


def test_subset_keeps_labels_and_patients(tmp_path: Path) -> None:
    write_folder(tmp_path, {"x": 3})
    lines = [f"x/{index:03d}.png,{label},p{index}" for index, label in enumerate("aba")]
    found = open_dataset(write_csv(tmp_path / "l.csv", "file,label,patient", *lines))
    part = found.subset(np.array([2, 1]))
    assert part.names == ("x/002.png", "x/001.png")
    assert part.labels.tolist() == [0, 1]
    assert part.patients == ("p2", "p1")
    np.testing.assert_array_equal(part.pixels(0), found.pixels(2))
    assert found.subset([0]).counts() == {"a": 1, "b": 0}


def test_dataset_inconsistent_fields_raise() -> None:
    with pytest.raises(DataError, match="differ in number"):
        Dataset(**fields(noise(3, 4, 4), [0, 1]))
    with pytest.raises(DataError, match="either as files or as an array"):
        Dataset(**{**fields(noise(1, 4, 4)), "array": None})


# Views


def test_view_prepares_images_and_reorders_labels(tmp_path: Path) -> None:
    found = open_dataset(write_folder(tmp_path, {"a": 2, "b": 1}, side=20))
    view = found.view(ImageSpec(size=8, channels=3, classes=("b", "c", "a")), crop="center")
    assert isinstance(view, LabeledImages)
    assert len(view) == 3
    assert view.classes == ("b", "c", "a")
    assert view.labels.tolist() == [2, 2, 0]
    for index in (0, 2, -1):
        expected = prepare(found.pixels(index), size=8, channels=3, crop="center")
        for _ in range(2):
            np.testing.assert_array_equal(view[index], expected)
    with pytest.raises(IndexError):
        view[3]
    assert len(list(view)) == 3


def test_view_returns_copies(tmp_path: Path) -> None:
    view = open_dataset(write_folder(tmp_path, {"a": 1})).view(
        ImageSpec(size=8, channels=1, classes=("a",)), crop="none"
    )
    view[0][:] = 0
    view[0][:] = 0
    assert view[0].max() > 0


def test_view_decodes_images_once_if_they_fit_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = open_dataset(write_folder(tmp_path, {"a": 2}))
    spec = ImageSpec(size=8, channels=1, classes=("a",))
    decoded: list[Path] = []
    real = data.decode
    monkeypatch.setattr(data, "decode", lambda path, **options: decoded.append(path) or real(path, **options))
    for limit, expected in ((2 * 64, 1), (2 * 64 - 1, 2)):
        monkeypatch.setattr(data, "CACHE_LIMIT", limit)
        decoded.clear()
        view = found.view(spec, crop="none")
        assert not decoded
        np.testing.assert_array_equal(view[1], view[1])
        assert len(decoded) == expected


def test_view_unknown_class_raises(tmp_path: Path) -> None:
    found = open_dataset(write_folder(tmp_path, {"benign": 1, "malignant": 1}))
    spec = ImageSpec(size=8, channels=1, classes=("benign", "maligant"))
    with pytest.raises(UnknownName, match=r"'malignant'.*did you mean maligant"):
        found.view(spec, crop="none")
    assert found.subset([0]).view(spec, crop="none").labels.tolist() == [0]


def test_view_multi_label_requires_multi_label_model() -> None:
    many = Dataset(**{**fields(noise(2, 8, 8)), "labels": np.array([[1, 1], [0, 0]], np.float32)})
    assert many.view(
        ImageSpec(size=8, channels=1, classes=("b", "x", "a"), multi_label=True), crop="none"
    ).labels.tolist() == [
        [1, 0, 1],
        [0, 0, 0],
    ]
    with pytest.raises(DataError, match="several labels per image"):
        many.view(ImageSpec(size=8, channels=1, classes=("a", "b")), crop="none")
    single = Dataset(**fields(noise(2, 8, 8), [1, 0]))
    view = single.view(ImageSpec(size=8, channels=1, classes=("a", "b"), multi_label=True), crop="none")
    assert view.labels.dtype == np.float32
    assert view.labels.tolist() == [[0, 1], [1, 0]]


def test_view_is_picklable(tmp_path: Path) -> None:
    found = open_dataset(write_folder(tmp_path, {"a": 3}))
    view = found.view(ImageSpec(size=8, channels=1, classes=("a",)), crop="none")
    first = view[0]
    copy = pickle.loads(pickle.dumps(view))
    np.testing.assert_array_equal(copy[0], first)
    np.testing.assert_array_equal(copy[2], view[2])


@pytest.mark.skipif(os.name != "posix", reason="mkfifo is a call of POSIX systems")
def test_open_dataset_pipe_named_like_an_image_raises(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1})
    os.mkfifo(tmp_path / "a" / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png is not a file"):
        open_dataset(tmp_path)


def test_blank_images_are_one_color_all_over(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2})
    rgb = noise(9, 9, 3)
    for name, image in {
        "transparent": Image.fromarray(np.dstack([rgb, np.zeros((9, 9), np.uint8)])),
        "gray": Image.new("L", (9, 9), 77),
        "red": Image.new("RGB", (9, 9), "red"),
        "bars": Image.fromarray(np.repeat(np.array([[0, 1]], np.uint8), 9, axis=0)),
    }.items():
        image.save(tmp_path / "a" / f"{name}.png")
    found = open_dataset(tmp_path)
    assert set(found.blank()) == {"a/transparent.png", "a/gray.png", "a/red.png"}
    assert describe_blank(found.blank()) == (
        "3 images have no content (one color all over, or all transparent), such as a/gray.png"
    )


def test_subset_reads_no_file_again(tmp_path: Path) -> None:
    found = open_dataset(write_folder(tmp_path, {"a": 3}))
    digests = found.fingerprints()
    (tmp_path / "a" / "001.png").unlink()
    assert found.subset([2, 0]).fingerprints() == (digests[2], digests[0])
    assert found.subset([2]).headers == (Header(12, 12, "L"),)
