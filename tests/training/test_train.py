"""Training runs: whole, killed, shared by two processes, and refused."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from medzoo import config as settings
from medzoo.cli.options import parse_overrides
from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.images import decode
from medzoo.data.phantom import CLASSES, phantom_dataset, write_phantom
from medzoo.errors import ConfigError, DataError, IntegrityError, PluginError, UnknownName
from medzoo.models.loading import load_model
from medzoo.plugins.lookup import load_plugins
from medzoo.runs.identity import NEUTRAL, PLAN, exclusive_run
from medzoo.runs.progress import Progress, no_progress
from medzoo.storage.files import temporary_name
from medzoo.training.train import TrainResult, train

COUNTS = dict(zip(CLASSES, (6, 4, 3, 3), strict=True))
SHORT = ["training.epochs=4", "training.batch_size=8", "training.checkpointing_steps=3", "training.validation_epochs=2"]


class Stop(Exception):
    """Ends a run from inside, as a power cut would."""


def stop_at(last: int) -> Progress:
    """A progress that ends the run at a given step."""

    def progress(done: int, total: int, note: str = "") -> None:
        if done == last:
            raise Stop

    return progress


@pytest.fixture(scope="module")
def udder() -> Dataset:
    return phantom_dataset(counts=COUNTS, size=32, seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("udder") / "images"
    write_phantom(root, counts=COUNTS, size=32, seed=5)
    return root


def run(
    data: Dataset,
    out: Path,
    *,
    plugin: str = "ddpm",
    overrides: Sequence[str] = (),
    progress: Progress = no_progress,
    **options: Any,
) -> TrainResult:
    plugins = load_plugins()
    spec = plugins.generator(plugin)
    config = settings.resolve(
        spec.config, presets=spec.presets, preset="tiny", overrides=parse_overrides([*SHORT, *overrides])
    )
    return train(spec, config, data, out, plugins=plugins, progress=progress, device="cpu", **{"seed": 3, **options})


@pytest.fixture(scope="module")
def finished(udder: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(udder, tmp_path_factory.mktemp("whole") / "run").folder


def test_train_folder_of_an_earlier_version(udder: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "begun"
    with pytest.raises(Stop):
        run(udder, out, progress=stop_at(4))
    plan = json.loads((out / PLAN).read_text())
    for new, old in (("training.learning_rate", "training.rate"), ("sampling.num_inference_steps", "sampling.steps")):
        plan["config"][old] = plan["config"].pop(new)
    (out / PLAN).write_text(json.dumps(plan))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=r"was started with an earlier version of medzoo: its .* was renamed to"):
        run(udder, out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_train_writes_model_curve_grids_and_record(finished: Path, udder: Dataset) -> None:
    record = json.loads((finished / "run.json").read_text())
    assert record["config"]["image.size"] == 16
    assert record["origins"]["image.size"] == "preset tiny"
    assert record["origins"]["training.epochs"] == "--set"
    assert record["data"]["counts"] == COUNTS
    assert record["training_seconds"] > 0
    with (finished / "loss.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, 9))
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    assert sorted(path.name for path in (finished / "samples").iterdir()) == [
        "step-00000004.png",
        "step-00000008.png",
    ]
    assert decode(finished / "loss.png").std() > 0
    description = json.loads((finished / "config.json").read_text())
    assert "images" not in description["data"]
    assert json.loads((finished / "fingerprints.json").read_text()) == {"images": sorted(set(udder.fingerprints()))}
    assert description["image"]["classes"] == sorted(CLASSES)


def test_train_saved_model_samples_like_preview(finished: Path) -> None:
    model = load_model(finished, plugins=load_plugins(), device="cpu")
    images = model.model.sample([1, 2], torch.tensor([0, 3]))
    again = load_model(finished, plugins=load_plugins(), device="cpu").model.sample([1, 2], torch.tensor([0, 3]))
    assert images.shape == (2, 1, 16, 16)
    assert torch.equal(images, again)
    average = load_file(finished / "checkpoints" / "step-00000008.safetensors")
    saved = load_file(finished / "model.safetensors")
    name = "network.unet.conv_in.weight"
    assert torch.equal(saved[name], average["average." + name.removeprefix("network.")])
    assert not torch.equal(saved[name], average["network." + name.removeprefix("network.")])


def test_train_keeps_newest_checkpoints(finished: Path) -> None:
    kept = sorted(path.name for path in (finished / "checkpoints").iterdir())
    assert kept == ["step-00000006.safetensors", "step-00000008.safetensors"]


@pytest.mark.parametrize("plugin", ["ddpm", "ddpm-var"])
@pytest.mark.parametrize("last", [2, 5, 8])
def test_train_interrupted_resumes_with_the_same_weights(
    udder: Dataset, tmp_path: Path, plugin: str, last: int
) -> None:
    whole = run(udder, tmp_path / "whole", plugin=plugin).folder
    with pytest.raises(Stop):
        run(udder, tmp_path / "cut", plugin=plugin, progress=stop_at(last))
    steps: list[int] = []
    cut = run(udder, tmp_path / "cut", plugin=plugin, progress=lambda done, *_: steps.append(done)).folder
    assert steps[0] == (last - 1) // 3 * 3
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert [row.split(",")[:3] for row in (cut / "loss.csv").read_text().splitlines()] == [
        row.split(",")[:3] for row in (whole / "loss.csv").read_text().splitlines()
    ]


def command(folder: Path, out: Path, *more: str) -> list[str]:
    sets = [part for setting in SHORT for part in ("--set", setting)]
    head = ["ddpm", "--data", str(folder), "--out", str(out), "--preset", "tiny", "--seed", "3", "--device", "cpu"]
    return ["train", *head, *sets, *more]


def wait_for(condition: Callable[[], bool], *, seconds: float, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_train_killed_resumes_with_the_same_weights(folder: Path, tmp_path: Path) -> None:
    more = ["--set", "training.epochs=40", "--set", "training.validation_epochs=20"]
    arguments = [sys.executable, "-m", "medzoo", *command(folder, tmp_path / "killed", *more)]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        checkpoints = tmp_path / "killed" / "checkpoints"
        wait_for(lambda: any(checkpoints.glob("step-*.safetensors")), seconds=600, process=process)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "killed" / "run.json").exists()
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "resuming from step" in done.stderr
    whole = [sys.executable, "-m", "medzoo", *command(folder, tmp_path / "whole", *more)]
    subprocess.run(whole, check=True, capture_output=True, timeout=600)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("killed", "whole")]
    assert weights[0] == weights[1]


def test_train_two_processes(folder: Path, tmp_path: Path) -> None:
    # accelerate launch starts one process on a CPU, however many it is asked for
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    flat = ["--set", "training.horizontal_flip=false", "--set", "training.color_jitter=0.0"]
    arguments = [*launch, "-m", "medzoo", *command(folder, tmp_path / "two", *flat)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [str(tmp_path / "two")]  # the second process says nothing
    with (tmp_path / "two" / "loss.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 8
    assert losses[-1] < losses[0]
    model = load_model(tmp_path / "two", plugins=load_plugins(), device="cpu")
    assert torch.isfinite(model.model.sample([0], torch.tensor([0]))).all()


def test_train_start_from_another_model(finished: Path, udder: Dataset, tmp_path: Path) -> None:
    start = load_model(finished, plugins=load_plugins(), device="cpu")
    other = phantom_dataset(counts=dict.fromkeys(CLASSES, 2), size=32, seed=9)
    kept = ["training.learning_rate=0.0", "training.epochs=1"]
    result = run(other, tmp_path / "more", overrides=kept, start=start)
    weights = load_file(tmp_path / "more" / "model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in load_file(finished / "model.safetensors").items())
    assert result.record["started_from"]["weights_sha256"] == start.weights_sha256
    assert result.record["started_from"]["tensors"] == f"{len(weights)} of {len(weights)}"
    more = load_model(tmp_path / "more", plugins=load_plugins(), device="cpu")
    assert more.trained_on == set(udder.fingerprints()) | set(other.fingerprints())
    with pytest.raises(DataError, match=r"start\.name"):
        run(other, tmp_path / "more", overrides=kept)


def test_train_start_with_another_target_says_so(finished: Path, udder: Dataset, tmp_path: Path, caplog) -> None:
    start = load_model(finished, plugins=load_plugins(), device="cpu")
    run(udder, tmp_path / "more", overrides=["training.epochs=1"], start=start)
    assert "was trained with" not in caplog.text
    run(udder, tmp_path / "edm", overrides=["training.epochs=1", "diffusion.prediction_type=edm"], start=start)
    assert "run was trained with diffusion.prediction_type = epsilon, and goes on with edm" in caplog.text
    assert "--set diffusion.prediction_type=epsilon keeps what it predicts" in caplog.text


def test_train_start_skips_weights_that_do_not_fit(finished: Path, tmp_path: Path) -> None:
    start = load_model(finished, plugins=load_plugins(), device="cpu")
    two = phantom_dataset(counts={CLASSES[0]: 4, CLASSES[1]: 4}, size=32, seed=9)
    taken = run(two, tmp_path / "two", overrides=["training.epochs=1"], start=start).record["started_from"]["tensors"]
    some, whole = map(int, taken.split(" of "))
    assert some == whole - 1  # the class table has another number of rows
    with pytest.raises(ConfigError, match="no weights of 'run' fit"):
        run(two, tmp_path / "var", plugin="ddpm-var", start=replace(start, model=torch.nn.Conv2d(1, 1, 7)))


def test_train_finished_run(finished: Path, udder: Dataset) -> None:
    before = (finished / "model.safetensors").stat().st_mtime_ns
    result = run(udder, finished)
    assert result.already_done
    assert (finished / "model.safetensors").stat().st_mtime_ns == before


def test_train_strength(finished: Path, udder: Dataset, tmp_path: Path) -> None:
    """A strength is not trained, and a run's folder may be older than some settings."""
    with pytest.raises(ConfigError, match="the same for every strength"):
        run(udder, tmp_path / "run", overrides=["sampling.strength=0.3"])
    old = shutil.copytree(finished, tmp_path / "old")
    for name in ("config.json", PLAN):
        values = json.loads((old / name).read_text())
        for key in [key for key in values["config"] if f".{key}".endswith(tuple(NEUTRAL))]:
            del values["config"][key]
        (old / name).write_text(json.dumps(values))
    assert run(udder, old).already_done
    assert (old / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def with_flipped_weights(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def with_cut_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def with_changed_config(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    changed = text.replace('"sampling.num_inference_steps": 4', '"sampling.num_inference_steps": 5')
    assert changed != text
    (folder / "config.json").write_text(changed)


def with_cut_config(folder: Path) -> None:
    (folder / "config.json").write_bytes((folder / "config.json").read_bytes()[:-100])


def without_fingerprints(folder: Path) -> None:
    (folder / "fingerprints.json").unlink()


def with_cut_record(folder: Path) -> None:
    (folder / "run.json").write_bytes((folder / "run.json").read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (without_weights, "model.safetensors"),
        (with_flipped_weights, "model.safetensors"),
        (with_cut_weights, "model.safetensors"),
        (without_config, "config.json"),
        (with_changed_config, "config.json"),
        (with_cut_config, "config.json"),
        (without_fingerprints, "fingerprints.json"),
        (with_cut_record, "run.json is damaged"),
    ],
)
def test_train_finished_run_is_repaired(
    finished: Path, udder: Dataset, tmp_path: Path, damage: Callable[[Path], None], named: str, logged: list[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    record = json.loads((folder / "run.json").read_text())
    added = {"held_out": {"accuracy": 0.5}}
    (folder / "run.json").write_text(json.dumps({**record, "notes": {**record["notes"], **added}}))
    damage(folder)
    steps: list[int] = []
    result = run(udder, folder, progress=lambda done, *_: steps.append(done))
    assert not result.already_done
    assert steps == []  # the newest checkpoint is that of the last step
    assert any(named in line for line in logged)
    for name in ("model.safetensors", "fingerprints.json"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes()
    config, before = (json.loads((path / "config.json").read_text()) for path in (folder, finished))
    assert {**config, "notes": {}} == {**before, "notes": {}}
    assert load_model(folder, plugins=load_plugins(), device="cpu").trained_on == set(udder.fingerprints())
    if damage is not with_cut_record:
        assert result.record["notes"] == record["notes"] | added
        assert result.record["training_seconds"] > 0
    assert run(udder, folder).already_done


def test_train_finished_run_without_checkpoints_is_trained_again(
    finished: Path, udder: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "checkpoints")
    without_weights(folder)
    steps: list[int] = []
    run(udder, folder, progress=lambda done, *_: steps.append(done))
    assert steps[-1] == 8
    assert (folder / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_train_repaired_with_other_weights_warns(
    finished: Path, udder: Dataset, tmp_path: Path, logged: list[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    record = (folder / "run.json").read_text()
    digest = json.loads(record)["weights"]["model.safetensors"]
    (folder / "run.json").write_text(record.replace(digest, "0" * 64))
    result = run(udder, folder)
    assert result.record["weights"]["model.safetensors"] == digest
    assert "differs from the one that was lost" in logged[-1]


def test_train_finished_run_with_edited_notes_is_left_alone(finished: Path, udder: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "notes": {"memorization": {"verdict": "passed"}}}))
    before = (folder / "config.json").read_bytes()
    assert run(udder, folder).already_done
    assert (folder / "config.json").read_bytes() == before


def test_train_removes_what_a_killed_run_left(udder: Dataset, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(udder, tmp_path / "run", progress=stop_at(5))
    left = [temporary_name(tmp_path / "run" / name) for name in ("loss.csv", "checkpoints/step-00000006.safetensors")]
    for path in left:
        path.write_bytes(b"half")
    run(udder, tmp_path / "run")
    assert not any(path.exists() for path in left)


def test_train_waits_for_another_process(finished: Path, udder: Dataset, tmp_path: Path, logged: list[str]) -> None:
    """As the first, which holds the lock, ends, the second finds its model and trains nothing."""
    folder, found = tmp_path / "run", []
    with exclusive_run(folder):
        second = threading.Thread(target=lambda: found.append(run(udder, folder)), daemon=True)
        second.start()
        deadline = time.monotonic() + 600
        waiting = f"waiting for another process that writes to {folder}"
        while waiting not in logged and time.monotonic() < deadline:
            time.sleep(0.05)
        assert second.is_alive()
        assert [path.name for path in folder.iterdir()] == [".medzoo-lock"]
        shutil.copytree(finished, folder, dirs_exist_ok=True)
    second.join(timeout=300)
    assert found[0].already_done
    assert logged.count(waiting) == 1


def test_train_other_settings_raise_with_difference(finished: Path, udder: Dataset) -> None:
    with pytest.raises(DataError, match=r"training\.learning_rate is 0\.0002, this one's is 0\.001"):
        run(udder, finished, overrides=["training.learning_rate=0.001"])
    with pytest.raises(DataError, match="seed is 3, this one's is 4"):
        run(udder, finished, seed=4)
    with pytest.raises(DataError, match=r"data\.fingerprint"):
        run(udder.subset(range(12)), finished)


def test_train_folder_with_other_files_raises(udder: Dataset, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="holds other files"):
        run(udder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_train_damaged_checkpoint_ends_with_the_same_weights(
    finished: Path, udder: Dataset, tmp_path: Path, logged: list[str]
) -> None:
    with pytest.raises(Stop):
        run(udder, tmp_path / "run", progress=stop_at(7))
    newest = tmp_path / "run" / "checkpoints" / "step-00000006.safetensors"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    steps: list[int] = []
    run(udder, tmp_path / "run", progress=lambda done, *_: steps.append(done))
    assert steps[0] == 3
    assert any("step-00000006.safetensors is damaged" in line for line in logged)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_load_model_flipped_bit_raises(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-5] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(IntegrityError, match="is damaged"):
        load_model(copy, plugins=load_plugins(), device="cpu")


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("plugin", 3, "plugin missing"),
        ("image", {}, r"image\.size is missing"),
        ("image", {"size": "x", "channels": 1, "classes": ["a"], "multi_label": False}, r"image\.size"),
        ("image", {"size": 16, "channels": 1, "classes": [1], "multi_label": False}, r"image\.classes"),
        ("config", [], "config missing"),
        ("config", {"image.size": 1_000_000}, "out of range"),
    ],
)
def test_load_model_damaged_config_raises(finished: Path, tmp_path: Path, key: str, value: object, told: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    description = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(description | {key: value}))
    with pytest.raises(IntegrityError, match=rf"copy.config\.json.*{told}"):
        load_model(copy, plugins=load_plugins(), device="cpu")


def test_train_generator_without_weights_raises(udder: Dataset, tmp_path: Path) -> None:
    plugins = load_plugins()
    spec = plugins.generator("duplicate")
    config = settings.resolve(spec.config, presets=spec.presets, preset="tiny")
    with pytest.raises(ConfigError, match="nothing to learn"):
        train(spec, config, udder, tmp_path / "x", plugins=plugins)


def test_resolve_unknown_setting_suggests_nearest(folder: Path, tmp_path: Path) -> None:
    spec = load_plugins().generator("ddpm")
    with pytest.raises(UnknownName, match=r"did you mean training\.epochs"):
        settings.resolve(spec.config, presets=spec.presets, overrides={"training.epoch": 3})


def test_train_multi_label_data_for_single_label_model_raises(tmp_path: Path) -> None:
    labels = np.eye(4, dtype=np.float32)[[0, 1, 2, 3]]
    labels[0, 1] = 1
    source = phantom_dataset(counts=dict.fromkeys(CLASSES, 1), size=32, seed=0)
    both = Dataset(path=Path("two"), classes=CLASSES, labels=labels, names=source.names, array=source.array)
    with pytest.raises(ConfigError, match="one label per image"):
        run(both, tmp_path / "run")


def test_train_plugin_without_image_size_raises(udder: Dataset, tmp_path: Path) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Bare:
        spread: float = 1.0

    plugins = load_plugins()
    spec = replace(plugins.generator("ddpm"), name="bare", config=Bare)
    config = settings.Resolved(value=Bare(), origins={})
    with pytest.raises(PluginError, match=r"'bare' has no setting image\.channels"):
        train(spec, config, udder, tmp_path / "run", plugins=plugins)
    assert not (tmp_path / "run").exists()


def test_train_invalid_class_folder_name_raises(folder: Path, tmp_path: Path) -> None:
    images = sorted(folder.rglob("*.png"))[:2]
    table = tmp_path / "data.csv"
    table.write_text(f"file,label\n{images[0]},normal\n{images[1]},wall/thick\n")
    with pytest.raises(DataError, match="'wall/thick' cannot be a folder's name"):
        run(open_dataset(table), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_train_verifies_images_first(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    for path in folder.rglob("*.png"):
        copy = broken / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    victim = sorted(broken.rglob("*.png"))[3]
    victim.write_bytes(victim.read_bytes()[:-40])
    with pytest.raises(DataError, match=victim.name):
        run(open_dataset(broken), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_train_record_names_the_plugin(udder: Dataset, tmp_path: Path, install_plugin: Callable[..., Path]) -> None:
    source = (
        "from dataclasses import replace\n"
        "import medzoo_ddpm\n"
        "from medzoo import hookimpl\n"
        "@hookimpl\n"
        "def register_generators():\n"
        "    return [replace(medzoo_ddpm.register_generators()[0], name='foreign-ddpm')]\n"
    )
    install_plugin("stranger", source, distribution="medzoo-stranger")
    record = run(udder, tmp_path / "run", plugin="foreign-ddpm", overrides=["training.epochs=1"]).record
    assert record["plugins"] == {"stranger": {"distribution": "medzoo-stranger", "version": "1.0"}}


def test_train_start_model_without_weights_exits_2(folder: Path, tmp_path: Path, medzoo: Callable[..., Any]) -> None:
    outcome = medzoo("train", "ddpm", "--data", folder, "--out", tmp_path / "run", "--start", "classic")
    assert outcome.code == 2
    assert "'classic' has no weights" in outcome.err
