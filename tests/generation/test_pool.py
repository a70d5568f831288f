"""Runs that select their images from a pool: what they write, resume, repeat and refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.augmentation import rows

from medzoo.data.dataset import open_dataset
from medzoo.data.images import decode
from medzoo.errors import ConfigError, DataError
from medzoo.generation import augment
from medzoo.generation.run import Job
from medzoo.generation.sampler import Sampler
from medzoo.generation.writer import ImageWriter

QUIET = {"progress": lambda done, total: None}


class Brightness:
    """An extractor without a network: coarse thumbnails."""

    name, identity = "brightness", "brightness 1"

    def __init__(self, trained_on=()):
        self.trained_on = frozenset(trained_on)

    def extract(self, data, image, *, crop, mirrored):
        rows = np.stack([self.thumbnail(data.pixels(index)) for index in range(len(data))])
        flipped = np.stack([self.thumbnail(data.pixels(index)[:, ::-1]) for index in range(len(data))])
        return [rows, flipped] if mirrored else [rows]

    def seconds_per_image(self, image):
        return 0.001

    @staticmethod
    def thumbnail(pixels):
        side = min(pixels.shape[:2]) // 4 * 4
        return pixels[:side, :side].reshape(4, side // 4, 4, side // 4).mean(axis=(1, 3)).ravel().astype(np.float32)


@pytest.fixture
def select(prepare, tmp_path):
    """Prepare a run that selects by novelty from twice as many images, unless told otherwise, and run it."""

    def call(*, extractor=None, **request):
        given = {"criteria": ["agreement", "novelty"], "find_extractor": lambda classes: extractor or Brightness()}
        return augment.run(prepare(**{**given, **request}), **QUIET)

    return call


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "run.json"
    }


def test_run_selected_keeps_some_of_the_pool(select, tmp_path):
    outcome = select()
    assert {row.label: (row.real, row.synthetic, row.drawn) for row in outcome.classes} == {
        "narrow-canal": (3, 9, 18),
        "normal": (9, 3, 6),
        "thick-wall": (4, 8, 16),
    }
    assert open_dataset(outcome.folder).counts() == dict.fromkeys(["narrow-canal", "normal", "thick-wall"], 12)
    pool = tmp_path / "out-pool"
    assert len(list(pool.glob("*/synthetic-*.png"))) == 40
    drawn = {row["file_name"]: row for row in rows(pool)}
    kept = [row for row in rows(outcome.folder) if row["origin"] == "synthetic"]
    assert len(kept) == 20
    assert all(row == drawn[row["file_name"]] for row in kept)  # seed and index are those of the pool
    for row in kept:
        assert (outcome.folder / row["file_name"]).samefile(pool / row["file_name"])


def test_run_selected_states_the_selection(select, tmp_path):
    outcome = select()
    record = json.loads((outcome.folder / "run.json").read_text())
    stated = record["selection"]
    assert stated == json.loads(json.dumps(outcome.selection))
    assert (stated["criteria"], stated["factor"]) == (["agreement", "novelty"], 2.0)
    assert (stated["pool"], stated["kept"], stated["extractor"]) == (40, 20, "brightness")
    for label, kept in {"narrow-canal": 9, "normal": 3, "thick-wall": 8}.items():
        row = stated["classes"][label]
        assert (row["pool"], row["kept"]) == (2 * kept, kept)
        assert row["kept"] + row["near_copies"] + row["ranked_lower"] == row["pool"]
        assert row["kept_agreed"] <= row["agreed"]
    assert record["counts"]["normal"] == {"real": 9, "synthetic": 3}


def test_run_selected_shows_rejected_images(select, tmp_path):
    plain = select(criteria=[], find_extractor=None, out=tmp_path / "plain").sheet
    assert decode(select().sheet).shape[0] > decode(plain).shape[0]


def test_run_selected_again_is_done_at_once(select, tmp_path, monkeypatch):
    first = select()
    before = content(first.folder)
    shutil.rmtree(tmp_path / "out-pool")
    monkeypatch.setattr(Sampler, "sample", None)
    again = select()
    assert again.already_done
    assert content(first.folder) == before
    assert again.selection == json.loads(json.dumps(first.selection))
    assert [(row.label, row.real, row.synthetic) for row in again.classes] == [
        (row.label, row.real, row.synthetic) for row in first.classes
    ]


def test_run_selected_repairs_a_finished_folder(select, tmp_path):
    folder = select().folder
    before = content(folder)
    damaged, lost = sorted(folder.glob("*/synthetic-*.png"))[:2]
    damaged.unlink()
    damaged.write_bytes(b"damaged")
    lost.unlink()
    assert not select().already_done
    assert content(folder) == before


def test_run_selected_resumes_a_pool(select, tmp_path, monkeypatch):
    whole = content(select(out=tmp_path / "whole").folder)
    calls = []
    sample = Sampler.sample

    def stops(self, batch):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return sample(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(Sampler, "sample", stops)
        with pytest.raises(KeyboardInterrupt):
            select()
    assert not (tmp_path / "out").exists()
    calls.clear()
    outcome = select()
    assert {name: data for name, data in content(outcome.folder).items() if name != ".medzoo-plan.json"} == {
        name: data for name, data in whole.items() if name != ".medzoo-plan.json"
    }


def test_run_selected_after_all_shards(select, tmp_path):
    whole = content(select(out=tmp_path / "whole").folder)
    first = select(shard=(1, 2))
    assert first.missing
    assert not first.selection
    assert not (tmp_path / "out").exists()
    second = select(shard=(2, 2))
    assert not second.missing
    assert content(second.folder) == whole


def test_run_selected_too_few_pass_then_a_larger_pool(select, tmp_path, images):
    """Every image of the pool is a near copy of a real one to this extractor; a larger pool continues it."""

    class Same(Brightness):
        def extract(self, data, image, *, crop, mirrored):
            found = super().extract(data, image, crop=crop, mirrored=mirrored)
            if any(name.startswith("normal/synthetic-") for name in data.names):
                copies = [k for k, name in enumerate(data.names) if name.startswith("normal/")][:5]
                found[0][copies] = self.thumbnail(open_dataset(images).pixels(0))
            return found

    with pytest.raises(DataError, match="too few images pass novelty: 1 of 6 of class 'normal'"):
        select(extractor=Same())
    drawn = content(tmp_path / "out-pool")
    assert not (tmp_path / "out").exists()
    outcome = select(extractor=Same(), pool=4)
    assert outcome.selection["classes"]["normal"]["near_copies"] == 5
    grown = content(tmp_path / "out-pool")
    assert all(grown[name] == data for name, data in drawn.items() if name.endswith(".png"))


def test_run_selected_by_random_needs_no_extractor(select):
    found = select(criteria=["random"], find_extractor=None).selection
    assert (found["extractor"], found["kept"]) == (None, 20)


def test_prepare_another_selection_in_the_same_folder(select):
    select()
    with pytest.raises(DataError, match=r"its select\.pool is 2\.0, this one's is 3"):
        select(pool=3.0)
    with pytest.raises(DataError, match=r"its select\.criteria"):
        select(criteria=["novelty"])


def test_prepare_no_image_to_draw(select):
    outcome = select(target=3)
    assert [row.synthetic for row in outcome.classes] == [0, 0, 0]
    assert not outcome.selection


def test_prepare_bad_selection(prepare):
    with pytest.raises(ConfigError, match="--pool draws more images than are kept, without --select"):
        prepare(pool=2.0)
    with pytest.raises(ConfigError, match="--pool 1 leaves nothing to select from"):
        prepare(criteria=["novelty"], pool=1.0, find_extractor=lambda classes: Brightness())


def test_prepare_extractor_trained_on_held_out_images(prepare, images, tmp_path):
    for part in ("train", "test"):
        shutil.copytree(images, tmp_path / "parts" / part)
    data = open_dataset(tmp_path / "parts")
    seen = Brightness(data.held_out["test"].fingerprints()[:3])
    with pytest.raises(DataError, match="'brightness' was trained on 3 of the 16 test images"):
        prepare(data=tmp_path / "parts", criteria=["agreement"], find_extractor=lambda classes: seen)


def test_prepare_extractor_trained_on_the_real_images(prepare, images, logged):
    seen = Brightness(open_dataset(images).fingerprints())
    prepare(criteria=["agreement"], find_extractor=lambda classes: seen)
    assert any("'brightness' was trained on 16 of the 16 real images" in line for line in logged)


def test_run_selected_says_that_a_finished_folder_has_no_marks(select, monkeypatch, logged):
    write = ImageWriter.write
    with monkeypatch.context() as patch:
        patch.setattr(ImageWriter, "write", lambda self, path, pixels, mark: write(self, path, pixels))
        patch.setattr(Job, "mark_images", lambda self: None)
        select()
    assert select().already_done
    assert any("finished by an earlier version of medzoo" in line for line in logged)
