"""The sets of an evaluation: what is taken of a path, what is refused, and as what all are compared."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.dicom_files import write_dicom
from helpers.evaluation_sets import write_metadata, write_set
from helpers.image_sets import write_folder
from PIL import Image

from medzoo.data.images import write_image
from medzoo.data.reading import Reading
from medzoo.errors import DataError
from medzoo.evaluation.image_sets import UNLABELED, common_image, open_sets, source_indices
from medzoo.evaluation.results import FAKE, OTHER, REAL, TRAIN


@pytest.fixture
def open_():
    def call(**given):
        return open_sets(given, classes=None, skip_bad=given.pop("skip_bad", False))

    return call


def sets_of(tmp_path, **sides):
    return {role: write_set(tmp_path / role, {"a": 3, "b": 2}, side=side) for role, side in sides.items()}


def test_open_sets_synthetic_given_as_real(tmp_path, open_):
    paths = sets_of(tmp_path, real=12, synthetic=12)
    write_metadata(paths[FAKE], synthetic="00[01].png")
    with pytest.raises(DataError, match=r"holds 4 synthetic images.*given as real images"):
        open_(**{REAL: paths[FAKE], FAKE: paths[FAKE]})
    with pytest.raises(DataError, match="given as train images"):
        open_(**paths, **{TRAIN: paths[FAKE]})


def test_open_sets_augmented_folder(tmp_path, open_, logged):
    paths = sets_of(tmp_path, real=12, synthetic=12)
    write_metadata(paths[FAKE], synthetic="00[01].png", generator="ddpm-x", weights="ab")
    fake = open_(**paths)[FAKE]
    assert fake.data.counts() == {"a": 2, "b": 2}
    assert fake.origins == (("ddpm-x", "ab"),)
    assert any("its 4 synthetic images of 5" in line for line in logged)


def test_open_sets_real_given_as_synthetic(tmp_path, open_):
    paths = sets_of(tmp_path, real=12, synthetic=12)
    write_metadata(paths[FAKE], synthetic="none")
    with pytest.raises(DataError, match="holds no synthetic image"):
        open_(**paths)


def test_open_sets_without_class_folders(tmp_path, open_):
    paths = sets_of(tmp_path, real=12)
    for number in range(4):
        write_image(tmp_path / "flat" / f"{number}.png", np.full((1, 9, 9), number, np.uint8))
    (tmp_path / "flat" / ".hidden.png").write_bytes(b"")
    fake = open_(**paths, **{FAKE: tmp_path / "flat"})[FAKE]
    assert fake.data.counts() == {UNLABELED: 4}
    assert fake.formats.sizes == {(9, 9): 4}


def test_open_sets_unreadable_image(tmp_path, open_, logged):
    paths = sets_of(tmp_path, real=12, synthetic=12)
    (paths[FAKE] / "a" / "000.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"000\.png"):
        open_(**paths)
    assert len(open_(**paths, skip_bad=True)[FAKE].data) == 4
    assert any("left out a/000.png" in text for text in logged)


def test_open_sets_knows_synthetic_images_without_a_table(tmp_path, open_):
    paths = sets_of(tmp_path, real=12, synthetic=12)
    (paths[FAKE] / "a" / "000.png").rename(paths[FAKE] / "a" / "synthetic-x-000000.png")
    assert open_(**paths)[FAKE].data.names == ("a/synthetic-x-000000.png",)
    with pytest.raises(DataError, match=r"holds a synthetic image, such as .*, but was given as real images"):
        open_(**{REAL: paths[FAKE], FAKE: paths[REAL]})


def test_open_sets_with_parts(tmp_path, open_, logged):
    for part, count in (("train", 5), ("val", 3), ("test", 2)):
        write_set(tmp_path / "split" / part, {"a": count, "b": count})
    fake = write_set(tmp_path / "fake", {"a": 2, "b": 2})
    sets = open_(**{REAL: tmp_path / "split", FAKE: fake})
    assert {role: len(one.data) for role, one in sets.items()} == {TRAIN: 10, REAL: 4, FAKE: 4}
    assert any("its test part is the real set" in line for line in logged)
    own = open_(**{REAL: tmp_path / "split", FAKE: fake, TRAIN: fake})
    assert len(own[TRAIN].data) == 4


def test_open_sets_multi_label(tmp_path, open_, logged):
    write_set(tmp_path / "chest", {"a": 3})
    rows = ("000.png,a|b,train", "001.png,a,test", "002.png,,test")
    (tmp_path / "chest" / "chest.csv").write_text("\n".join(["file,labels,split", *(f"a/{row}" for row in rows)]))
    sets = open_(**{REAL: tmp_path / "chest" / "chest.csv", FAKE: write_set(tmp_path / "fake", {"a": 2})})
    assert {role: one.data.counts() for role, one in sets.items()} == {
        REAL: {UNLABELED: 2},
        TRAIN: {UNLABELED: 1},
        FAKE: {"a": 2},
    }
    assert any(
        "chest.csv has several labels per image: its images are compared without them" in line for line in logged
    )


@pytest.mark.parametrize(("real", "fake", "given", "side"), [(20, 12, None, 12), (12, 20, None, 12), (20, 12, 16, 16)])
def test_common_image_size(tmp_path, open_, real, fake, given, side):
    sets = open_(**sets_of(tmp_path, real=real, synthetic=fake))
    image, told = common_image(sets, size=given)
    assert (image.size, image.channels, image.classes) == (side, 1, ("a", "b"))
    assert f"compared at {side}x{side} pixels in gray" in told
    assert ("5 real images were" in told) == (real != side)
    assert ("5 synthetic images were" in told) == (fake != side)
    assert ("enlarged" in told) == (given == 16)


def test_common_image_color(tmp_path, open_):
    paths = sets_of(tmp_path, real=12) | {OTHER: write_set(tmp_path / "other", {"c": 2}, channels=3)}
    paths[FAKE] = write_set(tmp_path / "fake", {"b": 2, "d": 1}, side=12)
    image, told = common_image(open_(**paths), size=None)
    assert image.channels == 3
    assert image.classes == ("a", "b", "d")
    assert "the real images' gray was repeated" in told


def test_common_image_not_square(tmp_path, open_):
    paths = sets_of(tmp_path, synthetic=12)
    (tmp_path / "real" / "a").mkdir(parents=True)
    Image.new("L", (30, 12)).save(tmp_path / "real" / "a" / "0.jpg")
    Image.new("L", (12, 12)).save(tmp_path / "real" / "a" / "1.png")
    sets = open_(**paths, **{REAL: tmp_path / "real"})
    image, message = common_image(sets, size=None)
    assert "1 real images were resized, 1 of them made square" in message
    sets[REAL].decode(image, crop="none")
    facts = sets[REAL].summary()
    assert (facts.sizes, facts.color, facts.codecs, facts.size) == ("12x12 to 30x12", "gray", "JPEG, PNG", 2)


def test_source_indices_by_folder_and_file():
    names = ["train/a/1.png", "train/b/1.png", "train/a/2.png", "old/a/2.png"]
    given = ["train/a/1.png", "a/1.png", "x/train/b/1.png", "", "1.png"]
    assert source_indices(given, names).tolist() == [0, 0, 1, -1, -1]
    assert source_indices(["a/2.png", "train/a/2.png", "new/a/2.png"], names).tolist() == [-1, 2, -1]
    assert source_indices(["1.png", "a/1.png"], ["1.png", "2.png"]).tolist() == [0, -1]


def test_open_sets_shows_all_sets_with_one_window(tmp_path):
    values = np.arange(64, dtype=np.int16).reshape(8, 8) * 20 - 700
    for patient, label in enumerate(("CHEST", "HEAD")):
        write_dicom(tmp_path / "real" / f"{patient}.dcm", values + patient, BodyPartExamined=label)
    given = {REAL: tmp_path / "real", FAKE: write_folder(tmp_path / "fake", {"CHEST": 1, "HEAD": 1})}
    reading = Reading(window="lung", label_tag="BodyPartExamined")
    sets = open_sets(given, classes=None, skip_bad=False, reading=reading)
    assert sets[REAL].data.counts() == {"CHEST": 1, "HEAD": 1}
    assert sets[REAL].data.window == "lung"
    assert sets[FAKE].data.counts() == {"CHEST": 1, "HEAD": 1}
