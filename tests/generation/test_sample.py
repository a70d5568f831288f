"""Samples of one generator: into a folder, onto a grid, the same again from the same seed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.tiny import CLASSES, make_model

from medzoo.cli.options import parse_overrides
from medzoo.data.images import decode
from medzoo.errors import ConfigError, DataError, UnknownName
from medzoo.generation import run as filling
from medzoo.generation import sample
from medzoo.generation.mixture import make_source
from medzoo.plugins.lookup import load_plugins
from medzoo.runs.identity import check_same_run, lock_run_dir

QUIET = {"progress": lambda done, total: None}


@pytest.fixture
def sampling(model, tmp_path, monkeypatch):
    """Prepare a sample job: four images a class of the tiny model, in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def call(**request):
        source = make_source(load_plugins(), device="cpu", overrides=parse_overrides(request.pop("overrides", ())))
        given = {"generator": str(model), "count": 4, "batch_size": 5, **request}
        return sample.prepare(source=source, **given)

    return call


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*.png"))


def test_prepare_default_folder(sampling):
    outcome = filling.run(sampling(), **QUIET)
    assert outcome.folder.as_posix() == "samples-tiny"
    assert files(outcome.folder) == sorted(f"{name}/synthetic-tiny-{i:06d}.png" for name in CLASSES for i in range(4))
    record = json.loads((outcome.folder / "run.json").read_text())
    assert record["job"] == "sample"
    assert record["counts"]["normal"] == {"real": 0, "synthetic": 4}


def test_prepare_labels(sampling):
    outcome = filling.run(sampling(labels=("normal", "thick-wall", "normal")), **QUIET)
    assert {name.partition("/")[0] for name in files(outcome.folder)} == {"normal", "thick-wall"}


def test_run_depends_on_the_seed(sampling, tmp_path):
    seen = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        folder = filling.run(sampling(out=tmp_path / name, seed=seed), **QUIET).folder
        seen.append([(folder / file).read_bytes() for file in files(folder)])
    assert seen[0] == seen[1]
    assert not set(seen[0]) & set(seen[2])


def test_run_matches_augment(sampling, fill, tmp_path):
    drawn = filling.run(sampling(count=3), **QUIET).folder
    made = fill(originals="omit").folder
    for file in files(drawn):
        assert np.abs(decode(drawn / file).astype(int) - decode(made / file)).max() <= 1


def test_sample_grid_alone(sampling, tmp_path):
    job = sampling(grid=tmp_path / "grid.png", count=10)
    sample.sample_grid(job, job.sheet, **QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]
    # Ten images a class in rows of eight, six times as large.
    assert decode(tmp_path / "grid.png").shape[0] > 3 * 2 * 6 * 16


def test_sample_grid_matches_the_folder(sampling, tmp_path):
    job = sampling(grid=tmp_path / "alone.png")
    sample.sample_grid(job, job.sheet, **QUIET)
    outcome = filling.run(sampling(out=tmp_path / "out", grid=tmp_path / "grid.png"), **QUIET)
    assert outcome.sheet == tmp_path / "grid.png"
    assert (tmp_path / "grid.png").read_bytes() == (tmp_path / "alone.png").read_bytes()
    assert filling.run(sampling(out=tmp_path / "out", grid=tmp_path / "more.png"), **QUIET).already_done
    assert (tmp_path / "more.png").exists()


def test_prepare_unknown_class(sampling):
    with pytest.raises(UnknownName, match="unknown class 'normel'") as caught:
        sampling(labels=("normel",))
    assert "did you mean normal?" in caught.value.hint


def test_prepare_real_images(sampling, images):
    with pytest.raises(DataError, match="none of their own") as caught:
        sampling(generator="classic")
    assert "--data" in caught.value.hint
    with pytest.raises(ConfigError, match="does not vary real images"):
        sampling(data=images)
    job = sampling(generator="duplicate", data=images, labels=("normal",))
    folder = filling.run(job, **QUIET).folder
    originals = {decode(path).tobytes() for path in (images / "normal").iterdir()}
    assert {decode(folder / file).tobytes() for file in files(folder)} <= originals


def test_prepare_over_another_sample(sampling, tmp_path):
    filling.run(sampling(), **QUIET)
    with pytest.raises(DataError, match="its n is 4, this one's is 5"):
        sampling(count=5)


def test_check_same_run_shortens_hashes(tmp_path):
    lock_run_dir(tmp_path, {"data": "0" * 64})
    with pytest.raises(DataError, match=r"its data is 000000000000\.\.\., this one's is 111111111111\.\.\. "):
        check_same_run(tmp_path, {"data": "1" * 64})


def test_prepare_settings(sampling):
    (model,) = sampling(overrides=("sampling.num_inference_steps=2",)).sampler.models
    assert model.config.flat()["sampling.num_inference_steps"] == 2
    with pytest.raises(ConfigError, match=r"network\.layers_per_block cannot change"):
        sampling(overrides=("network.layers_per_block=2",))
    with pytest.raises(UnknownName, match=r"sampling\.step'.*\[from --set\]"):
        sampling(overrides=("sampling.step=2",))


@pytest.mark.parametrize("change", [{"count": 0}, {"batch_size": 0}])
def test_prepare_out_of_range(sampling, change):
    with pytest.raises(ConfigError):
        sampling(**change)


def test_prepare_invalid_class_name(sampling, tmp_path):
    odd = make_model(tmp_path / "odd", classes=("a/b", "c"))
    with pytest.raises(DataError, match="cannot be a folder's name"):
        sampling(generator=str(odd))


def test_run_of_a_finished_folder_repairs_damaged_images(sampling, tmp_path, logged):
    first = filling.run(sampling(out=tmp_path / "x"), **QUIET)
    before = {path: path.read_bytes() for path in first.folder.glob("*/*.png")}
    broken = min(before)
    broken.write_bytes(before[broken][:-1])
    assert not filling.run(sampling(out=tmp_path / "x"), **QUIET).already_done
    assert {path: path.read_bytes() for path in first.folder.glob("*/*.png")} == before
    assert any("1 file is damaged, such as" in line for line in logged)
    assert filling.run(sampling(out=tmp_path / "x"), **QUIET).already_done
