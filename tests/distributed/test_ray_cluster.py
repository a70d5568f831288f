"""Work on a real Ray cluster of several nodes on this machine: the same bytes, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.ray_nodes import add_node, ray_cluster
from helpers.tiny import make_model

import medzoo
from medzoo.data.phantom import write_phantom
from medzoo.errors import ResourceError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
pytest.importorskip("ray", reason="Ray is not installed (pip install 'medzoo[ray]')")

pytestmark = [
    pytest.mark.xdist_group("ray"),
    # Ray's own modules, on other versions of Python and of its dependencies.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes with one CPU each."""
    with ray_cluster(nodes=2) as found:
        yield found


@pytest.fixture(scope="module")
def connection(cluster: Any) -> Iterator[str]:
    """The cluster's address, to which this process is connected."""
    from medzoo.distributed.ray_cluster import connected

    with connected(cluster.address):
        yield cluster.address


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the images are made of: 12, 9 and 5 batches of one image."""
    folder = tmp_path_factory.mktemp("given")
    write_phantom(folder / "scans", counts={"normal": 3, "thick-wall": 6, "narrow-canal": 10}, size=24, seed=5)
    model = make_model(folder / "tiny")
    return {"gen": str(model), "to": 15, "data": folder / "scans", "batch_size": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def expected(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The images of one process."""
    return written(medzoo.augment(**given, out=tmp_path_factory.mktemp("one") / "out").folder)


def written(folder: Path) -> dict[str, bytes]:
    """The files of a run by name, hidden ones and run.json aside."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in files
        if not file.name.startswith(".") and file.name != "run.json"
    }


def processes() -> list[psutil.Process]:
    """The processes that sample images on the nodes."""
    return [each for each in psutil.process_iter() if "ray::MedzooWorker" in _title(each)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def at_first(action: Callable[[], None]) -> Callable[..., None]:
    """A progress function that acts once, after the first image."""
    left = [action]

    def progress(done: int, total: int, note: str = "", /) -> None:
        if done and left:
            left.pop()()

    return progress


def test_augment_same_bytes(connection, given, expected, tmp_path, medzoo) -> None:
    options = ("--gen", given["gen"], "--to", 15, "--data", given["data"], "--batch-size", 1)
    found = medzoo("augment", *options, "--out", tmp_path / "out", "--ray", connection, "--json")
    assert found.code == 0, found.err
    assert json.loads(found.out)["complete"]
    assert written(tmp_path / "out") == expected


def test_augment_variations_to_a_shared_folder(connection, given, tmp_path) -> None:
    changed = {**given, "gen": "classic", "batch_size": 4}
    one = medzoo.augment(**changed, out=tmp_path / "one")
    assert written(medzoo.augment(**changed, out=tmp_path / "ray", ray=connection, shared_out=True).folder) == written(
        one.folder
    )
    assert not [*(tmp_path / "ray").glob(".medzoo-probe*")]


def test_augment_whose_workers_are_killed(connection, given, expected, tmp_path, logged) -> None:
    def kill() -> None:
        for process in processes():
            process.send_signal(signal.SIGKILL)  # as the kernel does where memory runs out

    result = medzoo.augment(**given, out=tmp_path / "out", ray=connection, progress=at_first(kill))
    assert written(result.folder) == expected
    assert any(line.startswith("a worker process died on node") for line in logged)


def test_augment_whose_node_is_lost(cluster, connection, given, expected, tmp_path, logged) -> None:
    node = add_node(cluster)
    kill = at_first(lambda: cluster.remove_node(node, allow_graceful=False))
    result = medzoo.augment(**given, out=tmp_path / "out", ray=connection, progress=kill)
    assert written(result.folder) == expected
    assert node not in cluster.worker_nodes
    found = " ".join(logged)
    assert "was lost" in found or "possibly out of memory or with its node" in found, "Ray may learn of it late"


def test_augment_whose_driver_is_killed(cluster, connection, given, expected, tmp_path) -> None:
    out = tmp_path / "out"
    options = ["--gen", given["gen"], "--to", "15", "--data", str(given["data"]), "--batch-size", "1"]
    command = [sys.executable, "-m", "medzoo", "augment", *options, "--out", str(out), "--ray", cluster.address]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not [*out.glob("*/synthetic-*.png")]:
        assert driver.poll() is None
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    assert not (out / "run.json").exists()
    result = medzoo.augment(**given, out=out, ray=connection)
    assert 0 < sum(row.drawn for row in result.classes) < sum(row.synthetic for row in result.classes)
    assert written(out) == expected


def test_run_experiment_same_bytes(connection, tmp_path) -> None:
    write_phantom(tmp_path / "scans", counts={"normal": 10, "thick-wall": 6, "narrow-canal": 6}, size=16, seed=1)
    design = tmp_path / "tiny.toml"
    design.write_text(
        'classifiers = ["cnn"]\narms = ["real", "dcgan"]\ncontrols = false\nbaseline = "real"\ntarget = 8\n'
        'folds = 2\nepochs = 1\npreset = "tiny"\n[generator.dcgan]\npreset = "tiny"\n'
    )
    found = []
    for name, options in (("one", {}), ("ray", {"ray": connection})):
        plan = medzoo.plan_experiment(design, data=tmp_path / "scans", out=tmp_path / name, device="cpu", **options)
        result = medzoo.run_experiment(plan)
        assert [(cell.status, cell.error) for cell in result.cells] == [("done", "")] * 4
        images = {file.name: file.read_bytes() for file in sorted((tmp_path / name).glob("sets/*/*/*.png"))}
        assert images
        found.append(([result.predictions(cell).read_bytes() for cell in result.cells], images))
        assert (tmp_path / name / "run.json").is_file()
    assert found[0] == found[1]


def test_augment_on_a_node_of_another_version(cluster, connection, given, tmp_path) -> None:
    (tmp_path / "other" / "medzoo").mkdir(parents=True)
    (tmp_path / "other" / "medzoo" / "__init__.py").touch()
    (tmp_path / "other" / "medzoo" / "_version.py").write_text('__version__ = "0.0.1"\n')
    node = add_node(cluster, env_vars={"PYTHONPATH": str(tmp_path / "other")})
    with pytest.raises(ResourceError, match=rf"has medzoo 0\.0\.1, this machine {medzoo.__version__}") as error:
        medzoo.augment(**given, out=tmp_path / "out", ray=connection)
    assert error.value.hint == f"on that node: pip install medzoo=={medzoo.__version__}"
    cluster.remove_node(node)


def test_connected_nowhere(given, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ResourceError, match=r"no Ray cluster can be used at 127\.0\.0\.1:1: .*refused"):
        medzoo.augment(**given, out=tmp_path / "out", ray="127.0.0.1:1")
