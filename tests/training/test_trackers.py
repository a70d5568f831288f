"""Experiment trackers: asked for, followed by a resumed training, and failing."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from accelerate import PartialState

import medzoo
from medzoo.data.phantom import CLASSES, write_phantom
from medzoo.errors import ConfigError, UnknownName
from medzoo.runs.record import RUN
from medzoo.training import trackers as module
from medzoo.training.trackers import IDS, LOG_WITH, Trackers, requested_trackers

SHORT = {"training.epochs": 4, "training.batch_size": 8, "training.checkpointing_steps": 3}
# Their libraries warn of their own use of Python and of each other.
pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning")


class Stop(Exception):
    """Ends a run from inside, as a power cut would."""


def stop_at_5(done: int, total: int, note: str = "") -> None:
    if done == 5:
        raise Stop


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("udder") / "images"
    write_phantom(root, counts=dict(zip(CLASSES, (6, 4, 3, 3), strict=True)), size=32, seed=5)
    return root


def open_trackers(folder: Path, *names: str) -> Trackers:
    PartialState(cpu=True)  # as training has it
    folder.mkdir(exist_ok=True)
    return Trackers(
        names, folder, hyperparameters={"image.size": 8, "network.block_out_channels": [8, 16]}, batch_sizes=[4]
    )


def tensorboard_events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard")).Reload()


def wait_for(file: Path, content: bytes) -> None:
    """Wait until `file` holds `content`: wandb's own process writes the end of a run after `finish` has returned."""
    end = time.monotonic() + 60
    while content not in file.read_bytes():
        assert time.monotonic() < end, f"{file} lacks {content!r}"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("log_with", "overrides", "found"),
    [
        ((), {}, ["mlflow"]),
        ("wandb", {}, ["wandb"]),
        (("wandb", "tensorboard", "wandb"), {LOG_WITH: "mlflow"}, ["wandb", "tensorboard"]),
        ((), {LOG_WITH: "tensorboard"}, ["tensorboard"]),
        ((), {LOG_WITH: []}, []),
    ],
)
def test_requested_trackers_option_before_override_before_file(
    tmp_path: Path, log_with: Any, overrides: dict[str, Any], found: list[str]
) -> None:
    (file := tmp_path / "config.toml").write_text('[training]\nlog_with = ["mlflow"]\n')
    assert requested_trackers(log_with, file=file, overrides=overrides) == found


def test_requested_trackers_unknown_name_raises() -> None:
    with pytest.raises(UnknownName, match="did you mean wandb"):
        requested_trackers("wandbb", file=None, overrides={})


def test_train_missing_tracker_is_refused_before_images_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "wandb" else importlib.util.find_spec(name))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"needs wandb \(pip install 'medzoo\[wandb\]'\)"):
        medzoo.train("cnn", data=tmp_path / "empty", out=tmp_path / "run", log_with="wandb")


def test_train_resumed_continues_tensorboard(images: Path, tmp_path: Path) -> None:
    def train(**options: Any) -> None:
        settings = {**SHORT, LOG_WITH: "tensorboard"}
        medzoo.train(
            "ddpm", data=images, out=tmp_path / "run", preset="tiny", settings=settings, device="cpu", **options
        )

    with pytest.raises(Stop):
        train(progress=stop_at_5)
    train()
    events = tensorboard_events(tmp_path / "run")
    losses = events.Scalars("train/loss")
    assert [event.step for event in losses] == list(range(1, 9))  # those after the checkpoint of step 3 only once
    assert {"train/learning_rate", "train/images_per_second"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Images("samples")] == [2, 4, 6, 8]
    record = json.loads((tmp_path / "run" / RUN).read_text())
    assert not any("log_with" in key for key in record["config"])  # the weights do not depend on it
    assert len(list((tmp_path / "run" / "tensorboard").rglob("hparams.yml"))) == 1


def test_trackers_wandb_offline_continues_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(sys, "argv", ["medzoo", "--data", "/secret/patients"])
    grid = tmp_path / "grid.png"
    medzoo.data.images.write_image(grid, sheet := np.zeros((3, 8, 8), np.uint8))
    with open_trackers(tmp_path / "run", "wandb") as trackers:
        trackers.start(1)
        trackers.log(1, 2, {"loss": 0.5})
        trackers.log_samples(1, sheet, grid)
    with open_trackers(tmp_path / "run", "wandb") as trackers:
        trackers.start(2)
        trackers.log(2, 2, {"loss": 0.25})
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime)
    id = json.loads((tmp_path / "run" / IDS).read_text())["wandb"]
    assert {path.name for path in files} == {f"run-{id}.wandb"}
    wait_for(files[1], b"0.25")
    for fact in (b"train/loss", b"0.5", b"samples", b"image.size"):
        assert fact in files[0].read_bytes()
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


def test_trackers_mlflow_continues_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store := (tmp_path / "mlruns").as_uri())
    (grid := tmp_path / "grid.png").write_bytes(b"png")
    with open_trackers(tmp_path / "run", "mlflow") as trackers:
        trackers.start(1)
        trackers.log(1, 2, {"loss": 0.5})
        trackers.log_samples(1, np.zeros((3, 8, 8), np.uint8), grid)
    trackers = open_trackers(tmp_path / "run", "mlflow")
    trackers.start(2)
    trackers.log(2, 2, {"loss": 0.25})
    trackers.__exit__(Stop, Stop(), None)
    client, id = mlflow.MlflowClient(store), json.loads((tmp_path / "run" / IDS).read_text())["mlflow"]
    assert [metric.value for metric in client.get_metric_history(id, "train/loss")] == [0.5, 0.25]
    found = client.get_run(id)
    assert found.data.params == {"image.size": "8", "network.block_out_channels": "[8, 16]"}
    assert (found.info.status, mlflow.active_run()) == ("FAILED", None)
    assert [file.path for file in client.list_artifacts(id, "samples")] == ["samples/grid.png"]


@pytest.mark.slow
def test_trackers_mlflow_without_address_is_kept_in_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with open_trackers(tmp_path / "run", "mlflow") as trackers:
        trackers.start(1)
        trackers.log(1, 1, {"loss": 0.5})
    assert not mlflow.is_tracking_uri_set()
    id = json.loads((tmp_path / "run" / IDS).read_text())["mlflow"]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}")
    assert client.get_run(id).data.metrics["train/loss"] == 0.5


def test_trackers_failing_tracker_warns_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logged: list[int] = []

    def failing(values: Any, step: int) -> None:
        raise ConnectionError("no route to host")

    trackers = open_trackers(tmp_path / "run", "wandb", "mlflow")
    well = SimpleNamespace(log=lambda values, step: logged.append(step), finish=lambda: None)
    started = {"_start_wandb": SimpleNamespace(log=failing, store_init_configuration=dict), "_start_mlflow": well}
    well.store_init_configuration = dict
    for name, tracker in started.items():
        monkeypatch.setattr(trackers, name, lambda step, id, tracker=tracker: (tracker, "id"))
    with caplog.at_level(logging.WARNING, "medzoo"), trackers:
        trackers.start(1)
        for step in (1, 2):
            trackers.log(step, 2, {"loss": 1.0})
    warned = [line.getMessage() for line in caplog.records]
    assert len(warned) == 1
    assert "wandb failed, and training continues without it: ConnectionError: no route to host" in warned[0]
    assert logged == [1, 2]


def test_trackers_log_long_training_is_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    trackers = open_trackers(tmp_path / "run", "mlflow")
    tracker = SimpleNamespace(
        log=lambda values, step: steps.append(step), finish=lambda: None, store_init_configuration=dict
    )
    monkeypatch.setattr(trackers, "_start_mlflow", lambda step, id: (tracker, "id"))
    with trackers:
        trackers.start(1)
        for step in range(1, 10_001):
            trackers.log(step, 10_000, {"loss": 1.0, **({"validation_loss": math.pi} if step == 7 else {})})
    assert steps[:3] == [5, 7, 10]
    assert steps[-1] == 10_000
    assert len(steps) == 2001
