"""Checkpoints as models: those of finished and unfinished runs, what they draw, and which are refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from medzoo import config as settings
from medzoo.cli.options import parse_overrides
from medzoo.data.dataset import Dataset
from medzoo.data.images import decode
from medzoo.data.phantom import CLASSES, phantom_dataset
from medzoo.data.pixels import to_uint8
from medzoo.errors import DataError, IntegrityError, PluginError
from medzoo.models.loading import LoadedModel, class_sheet, load_model
from medzoo.plugins.lookup import load_plugins
from medzoo.protocols import Generator
from medzoo.seeds import derive_seed
from medzoo.training.checkpoints import Checkpoint, checkpoints, load_checkpoint
from medzoo.training.run_folder import PREVIEWS_PER_CLASS
from medzoo.training.train import train

pytestmark = pytest.mark.xdist_group("checkpoints")  # one process makes what its tests share

COUNTS = dict(zip(CLASSES, (6, 4, 3, 3), strict=True))
SEED = 3
SHORT = ["training.epochs=4", "training.batch_size=8", "training.checkpointing_steps=4", "training.validation_epochs=2"]
STAGED = [
    "training.epochs=1",
    "first_stage.epochs=2",
    "first_stage.checkpointing_steps=2",
    "training.checkpointing_steps=2",
]


class PowerCut(Exception):
    """Ends a run from inside."""


@pytest.fixture(scope="module")
def udder() -> Dataset:
    return phantom_dataset(counts=COUNTS, size=32, seed=5)


def run(
    data: Dataset, out: Path, *, plugin: str, overrides: Sequence[str], last: int | None = None, **options: Any
) -> Path:
    plugins = load_plugins()
    spec = plugins.generator(plugin)
    config = settings.resolve(spec.config, presets=spec.presets, preset="tiny", overrides=parse_overrides(overrides))

    def progress(done: int, total: int, note: str = "") -> None:
        if done == last:
            raise PowerCut

    given = {"progress": progress, "device": "cpu", "keep": 0, "seed": SEED, **options}
    return train(spec, config, data, out, plugins=plugins, **given).folder


@pytest.fixture(scope="module")
def finished(udder: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(udder, tmp_path_factory.mktemp("whole") / "run", plugin="ddpm", overrides=SHORT)


@pytest.fixture(scope="module")
def staged(udder: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of two steps for the autoencoder, one of four for the denoiser, on images and their mirror images."""
    return run(udder, tmp_path_factory.mktemp("staged") / "run", plugin="ldm", overrides=STAGED)


def load(folder: Path, checkpoint: Checkpoint, data: Dataset) -> LoadedModel[Generator]:
    return load_checkpoint(folder, checkpoint, plugins=load_plugins(), device="cpu", data=data)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def preview(model: LoadedModel[Generator]) -> np.ndarray:
    seeds = {
        name: [derive_seed(SEED, "preview", label, i) for i in range(PREVIEWS_PER_CLASS)]
        for label, name in enumerate(model.image.classes)
    }
    return class_sheet(model.image, model.model.sample, seeds=seeds, side=64)


@pytest.mark.parametrize("plugin", ["ddpm", "ddpm-var", "dcgan"])
def test_load_checkpoint_samples_its_preview_and_writes_nothing(udder: Dataset, tmp_path: Path, plugin: str) -> None:
    folder = run(udder, tmp_path / "run", plugin=plugin, overrides=SHORT)
    before = files(folder)
    sheets = [decode(folder / "samples" / f"step-{step:08d}.png") for step in (4, 8)]
    assert not np.array_equal(*sheets)
    for checkpoint, sheet in zip(checkpoints(folder), sheets, strict=True):
        assert np.array_equal(preview(load(folder, checkpoint, udder)), sheet.transpose(2, 0, 1))
    assert files(folder) == before


def test_checkpoints_with_epochs_oldest_first(finished: Path) -> None:
    assert [(found.step, found.epoch) for found in checkpoints(finished)] == [(4, 2.0), (8, 4.0)]
    assert [found.path.name for found in checkpoints(finished)] == [
        "step-00000004.safetensors",
        "step-00000008.safetensors",
    ]


def test_checkpoints_last_is_finished_model(finished: Path, udder: Dataset) -> None:
    model = load(finished, checkpoints(finished)[-1], udder)
    saved = load_file(finished / "model.safetensors")
    assert all(torch.equal(value, model.model.state_dict()[name]) for name, value in saved.items())
    assert model.name == "run@8"
    assert model.trained_on == set(udder.fingerprints())
    assert model.image == load_model(finished, plugins=load_plugins(), device="cpu").image


def test_checkpoints_finished_model_replaces_missing_last(udder: Dataset, tmp_path: Path) -> None:
    folder = run(udder, tmp_path / "run", plugin="ddpm", overrides=SHORT)
    gone = folder / "checkpoints" / "step-00000008.safetensors"
    last = load(folder, checkpoints(folder)[-1], udder).model.state_dict()
    gone.unlink()
    found = checkpoints(folder)
    assert [(point.step, point.epoch, point.path.name) for point in found[1:]] == [(8, 4.0, "model.safetensors")]
    again = load(folder, found[-1], udder).model.state_dict()
    assert all(torch.equal(value, last[name]) for name, value in again.items())


def test_checkpoints_unfinished_run(udder: Dataset, finished: Path, tmp_path: Path) -> None:
    with pytest.raises(PowerCut):
        run(udder, tmp_path / "cut", plugin="ddpm", overrides=SHORT, last=6)
    (only,) = checkpoints(tmp_path / "cut")
    assert only.step == 4
    cut = load(tmp_path / "cut", only, udder).model.state_dict()
    whole = load(finished, checkpoints(finished)[0], udder).model.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in cut.items())
    later = run(udder, tmp_path / "cut", plugin="ddpm", overrides=SHORT)
    assert (later / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_load_checkpoint_first_of_two_stages_raises(staged: Path, udder: Dataset) -> None:
    found = checkpoints(staged)
    assert [(point.step, point.epoch) for point in found] == [(2, 1.0), (4, 2.0), (6, 0.5), (8, 1.0)]
    for early in found[:2]:
        with pytest.raises(DataError, match=f"step {early.step} holds only the autoencoder") as refused:
            load(staged, early, udder)
        assert refused.value.hint == "use a checkpoint after step 4"
    saved = load_file(staged / "model.safetensors")
    before = files(staged)
    half, whole = (load(staged, point, udder).model.state_dict() for point in found[2:])
    assert all(torch.equal(value, whole[name]) for name, value in saved.items())
    changed = {name.partition(".")[0] for name, value in saved.items() if not torch.equal(value, half[name])}
    assert changed == {"network"}, "the autoencoder and the statistics of latents stay"
    assert files(staged) == before


def test_load_checkpoint_other_images_or_folder_raises(finished: Path, tmp_path: Path) -> None:
    other = phantom_dataset(counts=COUNTS, size=32, seed=6)
    with pytest.raises(DataError, match="was trained on other images"):
        load(finished, checkpoints(finished)[0], other)
    with pytest.raises(DataError, match="holds no training run"):
        checkpoints(tmp_path)


def test_load_checkpoint_other_class_order_raises(finished: Path, udder: Dataset) -> None:
    turned = replace(udder, classes=udder.classes[::-1], labels=len(udder.classes) - 1 - udder.labels)
    assert turned.fingerprint() == udder.fingerprint()
    with pytest.raises(DataError, match="was trained on other images"):
        load(finished, checkpoints(finished)[0], turned)


def test_load_checkpoint_damaged_raises(udder: Dataset, tmp_path: Path) -> None:
    folder = run(udder, tmp_path / "run", plugin="ddpm", overrides=SHORT)
    (first, last) = checkpoints(folder)
    first.path.write_bytes(first.path.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match=r"step-00000004\.safetensors is damaged"):
        checkpoints(folder)
    load(folder, last, udder)


def test_load_checkpoint_generator_that_keeps_training_raises(finished: Path, udder: Dataset, monkeypatch: Any) -> None:
    from medzoo.toolkit.diffusion.pixel import PixelDiffusion

    def fit(self: Any, data: Any, *, seed: int, callback: Any, checkpoints: Any) -> None:
        callback.on_step_end(5, 8, {"loss": 0.1})

    monkeypatch.setattr(PixelDiffusion, "fit", fit)
    with pytest.raises(PluginError, match="'ddpm' trained step 5 after it was asked to stop at step 4"):
        load(finished, checkpoints(finished)[0], udder)


def test_checkpoints_epoch_missing_is_nan(udder: Dataset, tmp_path: Path) -> None:
    folder = run(udder, tmp_path / "run", plugin="ddpm", overrides=SHORT)
    path = checkpoints(folder)[0].path
    save_file({name: value for name, value in load_file(path).items() if name != "epoch"}, path)
    assert math.isnan(checkpoints(folder)[0].epoch)


def test_load_checkpoint_trained_on_includes_start_model(udder: Dataset, finished: Path, tmp_path: Path) -> None:
    other = phantom_dataset(counts=COUNTS, size=32, seed=6)
    start = load_model(finished, plugins=load_plugins(), device="cpu")
    with pytest.raises(PowerCut):
        run(other, tmp_path / "more", plugin="ddpm", overrides=SHORT, start=start, last=6)
    with pytest.raises(DataError, match="was started from 'run'"):
        load(tmp_path / "more", checkpoints(tmp_path / "more")[0], other)
    folder = run(other, tmp_path / "more", plugin="ddpm", overrides=SHORT, start=start)
    model = load(folder, checkpoints(folder)[0], other)
    assert model.trained_on == {*udder.fingerprints(), *other.fingerprints()}


def test_checkpoints_all_kept_with_checkpointing_steps_1(udder: Dataset, tmp_path: Path) -> None:
    every = [*SHORT[:2], "training.checkpointing_steps=1", "training.validation_epochs=4"]
    folder = run(udder, tmp_path / "all", plugin="ddpm", overrides=every)
    assert [point.step for point in checkpoints(folder)] == list(range(1, 9))
    images = [load(folder, point, udder).model.sample([1], torch.tensor([0])) for point in checkpoints(folder)[:2]]
    assert not np.array_equal(*map(to_uint8, images))
