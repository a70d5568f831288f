"""What the folder of synthetic images tells of the model that made them, and so of the images it was trained on."""

from __future__ import annotations

import json
import shutil

import pytest
from helpers.evaluation_sets import source_of_tests, write_metadata, write_set
from helpers.tiny import make_model

from medzoo.data.dataset import open_dataset
from medzoo.errors import DataError
from medzoo.evaluation.evaluate import EvaluateRequest, evaluate
from medzoo.generation import run as filling
from medzoo.generation import sample
from medzoo.generation.mixture import make_source
from medzoo.hub.registry import WEIGHTS, load_registry
from medzoo.plugins.lookup import load_plugins


@pytest.fixture
def run(tmp_path, images):
    """The folder of a model that nobody published, trained on two of the images."""
    return make_model(tmp_path / "run", trained_on=open_dataset(images).fingerprints()[:2])


@pytest.fixture
def drawn(run, tmp_path):
    """Images that `medzoo sample` drew with it."""
    job = sample.prepare(str(run), make_source(load_plugins(), device="cpu"), count=4, out=tmp_path / "drawn")
    return filling.run(job, progress=lambda done, total: None).folder


@pytest.fixture
def measure():
    """What an evaluation of these images against those real ones says of trainings."""

    def call(real, fake):
        request = EvaluateRequest(real=real, fake=fake)
        measured = evaluate(request, source_of_tests(), progress=lambda *seen: None)
        (facts,) = measured.evaluation.provenance["lineage"]["trained"]
        return facts

    return call


def test_find_seen_by_run(measure, run, drawn, images, logged, tmp_path):
    weights = json.loads((run / "config.json").read_text())["weights_sha256"]
    assert json.loads((drawn / "run.json").read_text())["models"] == {"run": str(run)}
    facts = measure(write_set(tmp_path / "unseen", {"normal": 6}), drawn)
    assert facts == {"who": "run", "weights_sha256": weights, "trained_on": 2, "real_among_them": 0}
    assert not [text for text in logged if "are unknown" in text]
    with pytest.raises(DataError, match="'run' was trained on 2 of the 16 real images"):
        measure(images, drawn)


def test_find_seen_by_augmented_folder(measure, run, fill, images):
    filled = fill(generators=(f"{run}=1/2", "classic=1/2")).folder
    assert json.loads((filled / "run.json").read_text())["models"] == {"run": str(run)}
    with pytest.raises(DataError, match="'run' was trained on 2 of the 16 real images"):
        measure(images, filled)


@pytest.mark.parametrize("fate", ["gone", "trained on"])
def test_find_seen_model_gone(measure, run, drawn, images, logged, fate):
    shutil.rmtree(run)
    if fate == "trained on":
        make_model(run, trained_on=open_dataset(images).fingerprints(), seed=1)
    assert measure(images, drawn)["trained_on"] is None
    told = f"'run' is in no registry here and no longer in {run}, so its training images are unknown"
    assert told in logged


def test_find_seen_without_record(measure, drawn, images, logged):
    (drawn / "run.json").unlink()
    assert measure(images, drawn)["trained_on"] is None
    assert "'run' is in no registry here, so its training images are unknown" in logged


def test_find_seen_published_model(measure, monkeypatch, tmp_path, logged):
    row = load_registry().model("ddpm-busi")
    weights = next(file.sha256 for file in row.files if file.name == WEIGHTS)
    fake = write_set(tmp_path / "fake", {"a": 6})
    write_metadata(fake, generator="ddpm-busi", weights=weights)
    monkeypatch.setattr("medzoo.evaluation.leakage.locate", lambda row: ("hub", None))
    assert measure(write_set(tmp_path / "real", {"a": 6}, seed=1), fake)["trained_on"] is None
    assert any(
        "'ddpm-busi' is not on this machine (medzoo pull ddpm-busi), so its training images" in text for text in logged
    )
