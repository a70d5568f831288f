"""The sampler: one image for one model, label, seed and batch size, whoever asks for it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from helpers.evaluation_sets import source_of_tests
from helpers.tiny import CLASSES

import medzoo
from medzoo.data.images import decode
from medzoo.data.phantom import write_phantom
from medzoo.errors import DataError
from medzoo.evaluation import model_evaluation
from medzoo.evaluation.evaluate import EvaluateRequest
from medzoo.experiment.tasks import SamplingTask
from medzoo.experiment.worker import Worker
from medzoo.generation import run, sample
from medzoo.generation.mixture import alone, make_source
from medzoo.generation.sampler import Sampler
from medzoo.models.loading import load_model
from medzoo.plugins.lookup import load_plugins

SEED, EACH, BATCH = 3, 4, 5


def pngs(folder):
    return np.stack([decode(file) for label in CLASSES for file in sorted((folder / label).glob("synthetic-*.png"))])


@pytest.fixture(scope="module")
def sampled(model, tmp_path_factory):
    """The images of `medzoo sample`, uint8 (N, H, W), class by class."""
    source = make_source(load_plugins(), device="cpu")
    out = tmp_path_factory.mktemp("sampled") / "out"
    job = sample.prepare(str(model), source, count=EACH, seed=SEED, batch_size=BATCH, out=out)
    return pngs(run.run(job, progress=lambda done, total: None).folder)


def test_sampler_from_augment(sampled, model, tmp_path):
    write_phantom(tmp_path / "one", counts=dict.fromkeys(CLASSES, 1), size=16, seed=0)
    given = {"to": EACH + 1, "data": tmp_path / "one", "originals": "omit", "seed": SEED, "batch_size": BATCH}
    outcome = medzoo.augment(model, out=tmp_path / "out", device="cpu", **given)
    # The classes of a folder come in another order, so an image may be in a batch of another size.
    assert np.abs(pngs(outcome.folder).astype(int) - sampled).max() <= 1


def test_sampler_from_evaluate(sampled, model, tmp_path, monkeypatch):
    write_phantom(tmp_path / "real", counts=dict.fromkeys(CLASSES, 4), size=16, seed=0)
    measured = []
    monkeypatch.setattr(model_evaluation, "evaluate", lambda request, source, **_: measured.append(request.fake))
    request = EvaluateRequest(real=tmp_path / "real", fake=tmp_path, seed=SEED, batch_size=BATCH)
    model_evaluation.evaluate_model(str(model), request, source_of_tests(), per_class=EACH, progress=lambda *_: None)
    np.testing.assert_array_equal(measured[0].array, sampled)
    assert measured[0].labels.tolist() == [k for k in range(len(CLASSES)) for _ in range(EACH)]


def test_sampler_from_python(sampled, model):
    loaded = medzoo.load(model, device="cpu")
    images = loaded.sample(n=EACH, seed=SEED, batch_size=BATCH).images
    np.testing.assert_array_equal((images[:, 0] * 255).round().numpy(), sampled)
    dataset = medzoo.as_dataset(loaded, per_class=EACH, seed=SEED, batch_size=BATCH)
    np.testing.assert_array_equal(np.stack([(image[0] * 255).round().numpy() for image, _ in dataset]), sampled)


def test_sampler_from_experiment(sampled, model):
    loaded = load_model(model, plugins=load_plugins(), device="cpu")
    design = SimpleNamespace(value=SimpleNamespace(batch_size=BATCH))
    published = SimpleNamespace(model_name=model.name)
    worker = Worker(design=design, images=None, generators={str(model): published}, folder=None, device="cpu")
    task = SamplingTask(key="", fold=None, generator=str(model), counts=dict.fromkeys(CLASSES, EACH), seed=SEED)
    np.testing.assert_array_equal(Sampler([loaded], worker._plan(task)).sample_all()[:, 0], sampled)


def test_sampler_without_real_images(model):
    loaded = load_model(model, plugins=load_plugins(), device="cpu")
    varying = loaded.__class__(**{**vars(loaded), "spec": load_plugins().generator("duplicate")})
    with pytest.raises(DataError, match="class 'normal' has none"):
        alone(varying).sampler({"normal": 2}, real=None, batch_size=2, seed=0)
