"""Models judged by images drawn from them, trends over a run's checkpoints, and what a run's folder keeps of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.evaluation_sets import source_of_tests
from helpers.tiny import make_model

import medzoo
from medzoo import config as settings
from medzoo.cli.options import parse_overrides
from medzoo.data.dataset import open_dataset
from medzoo.data.phantom import write_phantom
from medzoo.errors import ConfigError, DataError
from medzoo.evaluation.evaluate import EvaluateRequest
from medzoo.evaluation.memorization import NOTE, CopyCheck, memorization_note, save_memorization_note
from medzoo.evaluation.model_evaluation import evaluate_checkpoints, evaluate_model, sample_dataset
from medzoo.evaluation.results import FAKE
from medzoo.generation.mixture import make_source
from medzoo.models.loading import load_model
from medzoo.plugins.lookup import load_plugins
from medzoo.training.train import train

COUNTS = {"normal": 5, "thick-wall": 4}


def unheard(*_):
    """Nothing."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Training and held-out images, and a run of 8 steps with a checkpoint at each second one."""
    root = tmp_path_factory.mktemp("trend")
    for name, seed in (("train", 1), ("real", 2)):
        write_phantom(root / name, counts=COUNTS, size=16, seed=seed)
    plugins = load_plugins()
    spec = plugins.generator("ddpm")
    short = ["training.epochs=4", "training.batch_size=5", "training.checkpointing_steps=2"]
    resolved = settings.resolve(spec.config, presets=spec.presets, preset="tiny", overrides=parse_overrides(short))
    train(spec, resolved, open_dataset(root / "train"), root / "run", plugins=plugins, keep=9)
    return root


def request(folders, **changes):
    return EvaluateRequest(real=folders / "real", fake=folders, **changes)


def test_sample_dataset_depends_on_the_seed(folders):
    model = load_model(folders / "run", plugins=load_plugins(), device="cpu")
    one, sources = sample_dataset(model, per_class=3, seed=1, batch_size=4, progress=unheard)
    assert sources == ()
    assert one.counts() == {"normal": 3, "thick-wall": 3}
    assert one.array.shape == (6, 16, 16)
    other, _ = sample_dataset(model, per_class=3, seed=1, batch_size=6, progress=unheard)
    assert np.abs(one.array.astype(int) - other.array).max() <= 1
    more, _ = sample_dataset(model, per_class=5, seed=1, batch_size=4, progress=unheard)
    assert np.abs(more.array[:3].astype(int) - one.array[:3]).max() <= 1
    assert not np.array_equal(
        sample_dataset(model, per_class=3, seed=2, batch_size=4, progress=unheard)[0].array, one.array
    )


def test_evaluate_model(folders):
    measured = evaluate_model(str(folders / "run"), request(folders), source_of_tests(), per_class=4, progress=unheard)
    facts = measured.evaluation.summary("synthetic")
    assert facts.counts == {"normal": 4, "thick-wall": 4}
    (known,) = measured.evaluation.provenance["lineage"]["trained"]
    assert (known["who"], known["trained_on"], known["real_among_them"]) == ("run", 9, 0)


def test_evaluate_model_on_its_training_images(folders):
    own = request(folders, allow_leak=False)
    leaked = EvaluateRequest(**{**vars(own), "real": folders / "train"})
    with pytest.raises(DataError, match=r"'run' was trained on 9 of the 9 real images"):
        evaluate_model(str(folders / "run"), leaked, source_of_tests(), per_class=2, progress=unheard)


def test_evaluate_model_img2img(folders):
    with pytest.raises(ConfigError):
        evaluate_model("duplicate", request(folders), source_of_tests(), per_class=2, progress=unheard)


def test_evaluate_checkpoints_trend(folders, logged):
    measured = evaluate_checkpoints(
        folders / "run",
        request(folders, metrics=("mean-distance@means",)),
        source_of_tests(),
        train=open_dataset(folders / "train"),
        per_class=4,
        progress=unheard,
    )
    trend = measured.evaluation.trend
    assert [(point.step, point.epoch) for point in trend] == [(2, 1.0), (4, 2.0), (6, 3.0), (8, 4.0)]
    assert {(point.name, point.score.n_real, point.score.n_fake) for point in trend} == {("mean-distance@means", 9, 8)}
    assert len({point.score.value for point in trend}) == 4
    assert trend[-1].score.value == measured.evaluation.results[0].score.value
    assert [text for text in logged if text.startswith("step ")] == [f"step {2 * k} ({k} of 4)" for k in (1, 2, 3, 4)]


def test_evaluate_checkpoints_without_any(folders, tmp_path):
    with pytest.raises(DataError, match="no training run"):
        evaluate_checkpoints(
            make_model(tmp_path / "model"),
            request(folders),
            source_of_tests(),
            train=open_dataset(folders / "train"),
            per_class=2,
            progress=unheard,
        )


def test_memorization_note_in_card(folders, tmp_path):
    measured = evaluate_model(
        str(folders / "run"),
        request(folders, train=folders / "train", metrics=("nearest-train@means",)),
        source_of_tests(),
        per_class=4,
        progress=unheard,
    )
    note = memorization_note(measured.evaluation)
    check = CopyCheck.of({NOTE: note})
    assert (check.metric, check.failed, check.n_real, check.n_fake) == ("nearest-train@means", False, 9, 8)
    run = tmp_path / "run"
    run.mkdir()
    for name in ("run.json", "config.json"):
        (run / name).write_bytes((folders / "run" / name).read_bytes())
    save_memorization_note(run, measured.evaluation)
    for name in ("run.json", "config.json"):
        before, after = (json.loads((folder / name).read_text()) for folder in (folders / "run", run))
        assert after["notes"].pop(NOTE) == note
        assert after == before | {"notes": before.get("notes", {})}
    (run / "config.json").write_text("[]")
    with pytest.raises(DataError, match="finished training run"):
        save_memorization_note(run, measured.evaluation)


def test_evaluate_model_varies_training_images(folders):
    given = request(folders, train=folders / "train", metrics=("nearest-train@pixels",))
    source = make_source(load_plugins(), device="cpu")
    measured = evaluate_model(f"{folders / 'run'}@0.5", given, source, per_class=6, progress=unheard)
    (row,) = measured.evaluation.results
    fake = measured.sets[FAKE]
    assert set(fake.sources) == set(open_dataset(folders / "train").names)
    assert row.score.details["variations"] == 12
    assert 0 < row.score.details["source closest"] <= row.score.details["source median"]
    assert "12 of 12 synthetic images are variations of training images" in row.score.warnings[-1]
    with pytest.raises(ConfigError, match=r"'run@0\.5' varies real images, and none are given to vary") as caught:
        evaluate_model(f"{folders / 'run'}@0.5", request(folders), source, per_class=6, progress=unheard)
    assert caught.value.hint == "--train DIR"


def test_evaluate_folder_that_names_sources(folders, tmp_path):
    """Copies of training images that say so are not taken for memorization; those that do not say so are."""
    made = medzoo.augment("duplicate", data=folders / "train", to=25, out=tmp_path / "made", originals="omit")
    given = {"real": folders / "real", "train": folders / "train", "metrics": ["nearest-train@pixels"]}
    (row,) = medzoo.evaluate(fake=made.folder, **given, size=16).results
    assert not row.score.failed
    assert (row.score.details["variations"], row.score.details["source share"]) == (41, 1.0)
    assert row.score.details["source median"] == pytest.approx(0.0, abs=1e-5)
    (made.folder / "metadata.csv").unlink()
    (row,) = medzoo.evaluate(fake=made.folder, **given, size=16).results
    assert row.score.failed
    assert "variations" not in row.score.details
    other = tmp_path / "other"
    write_phantom(other, counts=COUNTS, size=16, seed=9)
    for file in sorted(other.rglob("*.png")):
        file.rename(file.with_name(f"other-{file.name}"))
    made = medzoo.augment("duplicate", data=other, to=10, out=tmp_path / "more", originals="omit")
    found = medzoo.evaluate(fake=made.folder, **given, size=16)
    assert any("11 synthetic images are variations of images that have no namesake" in text for text in found.warnings)
