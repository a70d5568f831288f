"""The design of a reading study: balanced, blinded, seeded, and nothing of the key in its page."""

from __future__ import annotations

import base64
import io
import json
import re
import stat
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.image_sets import noise, write_folder
from PIL import Image

import medzoo
from medzoo.data.images import write_image
from medzoo.data.marks import TRAINED, Mark
from medzoo.errors import ConfigError, DataError
from medzoo.report.study.page import NewStudy
from medzoo.study.design import StudyRequest, design_study
from medzoo.study.key import read_study

CLASSES = ("benign", "malignant")


def write_sets(root: Path, *, count: int = 12, side: int = 16) -> tuple[Path, Path]:
    """A set of real images of 24 pixels, and one of marked synthetic ones of `side` pixels."""
    real = write_folder(root / "real", dict.fromkeys(CLASSES, count), side=24)
    for k, label in enumerate(CLASSES):
        for index in range(count):
            path = root / "fake" / label / f"synthetic-gen-{index:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            smooth = np.kron(noise(side // 4, side // 4, seed=5000 + 100 * k + index), np.ones((4, 4), np.uint8))
            write_image(path, smooth[None], Mark(source_type=TRAINED, generator="gen", seed=index, label=label))
    return real, root / "fake"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The two sets."""
    return write_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def made(sets: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> NewStudy:
    """A study of ten images of each class and set, two of them shown twice."""
    return medzoo.new_study(*sets, out=tmp_path_factory.mktemp("made") / "study", per_class=10, repeats=0.2)


def data_of(page: Path) -> dict:
    """What the page holds for its script."""
    found = re.search(r'<script id="data" type="application/json">(.+?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found
    return json.loads(found[1])


def test_new_study_is_balanced_and_repeats_lie_apart(made: NewStudy) -> None:
    study = made.study
    shown = Counter((one.synthetic, one.label) for one in study.images)
    assert shown == {(synthetic, label): 10 for synthetic in (False, True) for label in CLASSES}
    repeats = [trial for trial in study.trials if trial.repeat_of]
    assert Counter((study.synthetic(trial), study.label(trial)) for trial in repeats) == dict.fromkeys(shown, 2)
    places = {trial.id: place for place, trial in enumerate(study.trials)}
    assert len(places) == len(study.trials) == 48
    assert min(places[trial.id] - places[trial.repeat_of] for trial in repeats) >= 5
    assert len({one.fingerprint for one in study.images}) == 40


def test_new_study_page_holds_nothing_of_the_key(made: NewStudy) -> None:
    page, study = made.page.read_text("utf-8"), made.study
    data = data_of(made.page)
    assert set(data) == {"study", "side", "questions", "images", "trials"}
    assert all(set(trial) == {"id", "images"} for trial in data["trials"])
    for hidden in (study.secret, "synthetic-gen", "real/", "fake", "repeat_of", "seed"):
        assert hidden not in page
    for one in study.images:
        assert one.fingerprint not in page
        assert one.name not in page
    if made.key.stat().st_mode & 0o077:
        pytest.fail(f"others may read the key: {stat.filemode(made.key.stat().st_mode)}")


def test_new_study_images_are_alike_but_for_their_pixels(made: NewStudy) -> None:
    images = data_of(made.page)["images"]
    assert len({len(text) for text in images}) == 1
    opened = [Image.open(io.BytesIO(base64.b64decode(text))) for text in images]
    assert {(image.size, image.mode, tuple(image.info)) for image in opened} == {((16, 16), "L", ())}
    chunks = [re.findall(rb"IHDR|IDAT|IEND|tEXt|iTXt|paDd|pHYs|gAMA", base64.b64decode(text)) for text in images]
    assert {tuple(found) for found in chunks} == {(b"IHDR", b"IDAT", b"paDd", b"IEND")}


def test_new_study_page_asks_no_other_host(made: NewStudy) -> None:
    page = made.page.read_text("utf-8")
    assert "default-src 'none'" in page
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
    assert not re.search(r"https?://|fetch\(|XMLHttpRequest|sendBeacon|WebSocket", page)


def test_new_study_warns_of_larger_real_images(sets, tmp_path, logged) -> None:
    found = medzoo.new_study(*sets, out=tmp_path / "s", per_class=4)
    [size] = [text for text in found.study.warnings if "larger" in text]
    assert size == (
        "the real images are larger (24 pixels) than the synthetic ones (16): all are shown at 16 pixels, resized by "
        "the same rule, so the real ones may look sharper or smoother"
    )
    assert size in logged


def test_design_study_depends_on_secret_and_seed(sets: tuple[Path, Path]) -> None:
    request = StudyRequest(real=sets[0], fake=sets[1], per_class=4)
    secret = "ab" * 32
    first = design_study(request, secret=secret).study
    assert design_study(request, secret=secret).study == first
    for other in (
        design_study(request, secret="cd" * 32).study,
        design_study(replace(request, seed=1), secret=secret).study,
        design_study(request).study,  # draws a secret of its own
    ):
        assert other.id != first.id
        assert [one.name for one in other.images] != [one.name for one in first.images]
    ids = {trial.id for trial in first.trials}
    assert not ids & {trial.id for trial in design_study(request).study.trials}


def test_new_study_again_writes_the_same_page(sets, tmp_path) -> None:
    out = tmp_path / "s"
    first = medzoo.new_study(*sets, out=out, per_class=4)
    content = first.page.read_bytes()
    assert medzoo.new_study(*sets, out=out, per_class=4).already_done
    first.page.unlink()
    assert not medzoo.new_study(*sets, out=out, per_class=4).already_done
    assert first.page.read_bytes() == content
    assert read_study(out) == first.study
    with pytest.raises(DataError, match="holds this study with a page of other texts"):
        medzoo.new_study(*sets, out=out, per_class=4, consent="Another text")
    assert first.page.read_bytes() == content
    with pytest.raises(DataError, match="holds another study, whose page may be with readers already"):
        medzoo.new_study(*sets, out=out, per_class=5)


def test_new_study_pairs_are_of_one_class_and_both_sides(sets, tmp_path) -> None:
    study = medzoo.new_study(*sets, out=tmp_path / "s", per_class=10, pairs=True, repeats=0.0).study
    assert study.tasks == ("origin",)
    assert len(study.trials) == 20
    for trial in study.trials:
        left, right = (study.images[place] for place in trial.images)
        assert left.label == right.label
        assert left.synthetic != right.synthetic
    assert sum(study.synthetic(trial) for trial in study.trials) == 10


def test_new_study_same_image_in_both_sets_is_refused(tmp_path: Path) -> None:
    real = write_folder(tmp_path / "real", dict.fromkeys(CLASSES, 4), side=24)
    fake = write_folder(tmp_path / "fake", dict.fromkeys(CLASSES, 4), side=24, seed=1000)
    shared = np.asarray(Image.open(real / "benign" / "000.png"))
    other = fake / "benign" / "copy.png"
    Image.fromarray(np.stack([shared] * 3, axis=2)).save(other)  # gray stored as RGB has the same pixels
    with pytest.raises(DataError, match=r"an image has the same pixels in both sets, such as benign/000.png and"):
        medzoo.new_study(real, fake, out=tmp_path / "s", per_class=2)


def test_new_study_one_image_per_patient(tmp_path: Path) -> None:
    real, fake = write_sets(tmp_path, count=6)
    lines = [f"{label}/{k:03d}.png,{label},p{k // 2}" for label in CLASSES for k in range(6)]
    (real / "labels.csv").write_text("file,label,patient\n" + "\n".join(lines) + "\n")
    study = medzoo.new_study(real / "labels.csv", fake, out=tmp_path / "s", per_class=3).study
    for label in CLASSES:
        numbers = [int(Path(one.name).stem) // 2 for one in study.images if one.label == label and not one.synthetic]
        assert sorted(numbers) == [0, 1, 2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"per_class": 13}, "class 'benign' has 12 different real images, and --per-class asks for 13"),
        ({"per_class": 1}, "--per-class 1 is too small"),
        ({"repeats": 0.7}, "--repeats 0.7 is not between 0 and 0.5"),
        ({"tasks": ["grade"]}, "--task cannot take 'grade'"),
        ({"pairs": True, "tasks": ["class"]}, "--pairs asks which of two images is synthetic"),
        ({"crop": "oval"}, "--crop cannot take 'oval'"),
        ({"size": 4}, "--size 4 is not between 16 and 1024"),
    ],
)
def test_new_study_what_cannot_be(sets, tmp_path, given, message) -> None:
    with pytest.raises((ConfigError, DataError), match=re.escape(message)):
        medzoo.new_study(*sets, out=tmp_path / "s", **given)
    assert not (tmp_path / "s").exists()


def test_new_study_synthetic_images_given_as_real(sets, tmp_path) -> None:
    with pytest.raises(DataError, match=r"holds 24 synthetic images, such as .* but was given as real images"):
        medzoo.new_study(sets[1], sets[1], out=tmp_path / "s")


def test_new_study_texts_are_escaped(sets, tmp_path) -> None:
    text = "<script>alert(1)</script>\n\nSecond & last"
    page = medzoo.new_study(*sets, out=tmp_path / "s", per_class=2, title="A < B", instructions=text, consent=text).page
    shown = page.read_text("utf-8")
    assert "<title>A &lt; B</title>" in shown
    assert "<script>alert" not in shown
    assert shown.count("<p>Second &amp; last</p>") == 2


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace('"synthetic": true', '"synthetic": false', 1), "differs from the checksum in it"),
        (lambda text: "{}", "it is another file"),
        (lambda text: text[:100], "is not the key of a reading study"),
    ],
)
def test_read_study_damaged_key(made, tmp_path, damage, message) -> None:
    (tmp_path / "key.json").write_text(damage(made.key.read_text("utf-8")))
    with pytest.raises(DataError, match=message):
        read_study(tmp_path)
