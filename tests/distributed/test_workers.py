"""Work in several processes: none waits forever, and Ctrl-C is for the process that started them."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from pathlib import Path

import pytest
from helpers.pool import Die, WriteSignals

from medzoo.distributed.node import Node, Start, files_in, pack, read_files
from medzoo.distributed.workers import Cluster, open_workers
from medzoo.errors import ConfigError, ResourceError

LARGE = bytes(1 << 20)  # more than a pipe holds


def test_open_workers_in_processes(tmp_path: Path) -> None:
    names, done = iter("0123"), list[str]()
    with open_workers(WriteSignals(tmp_path, LARGE), jobs=2) as workers:
        workers.run(lambda: next(names, None), lambda name, _: done.append(name))
    assert sorted(done) == ["0", "1", "2", "3"]
    found = [(tmp_path / name).read_text().split() for name in done]
    assert {blocked for blocked, _ in found} == {"True"}
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert not multiprocessing.active_children()


def test_open_workers_whose_process_dies() -> None:
    names = iter("0123")
    with (
        pytest.raises(ResourceError, match="a worker process died, possibly out of memory"),
        open_workers(Die(LARGE), jobs=2) as workers,
    ):
        workers.run(lambda: next(names, None), lambda *_: None)
    assert not multiprocessing.active_children()


def test_open_workers_without_jobs() -> None:
    with pytest.raises(ConfigError, match="--jobs 0"), open_workers(Die(), jobs=0):
        pass


@pytest.mark.parametrize("address", ["", "cluster", "ray://", "http://head:6379", "head:port"])
def test_cluster_address(address: str) -> None:
    with pytest.raises(ConfigError, match="is not the address of a Ray cluster"):
        Cluster(address=address)


def test_cluster_gpus_and_missing_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"--gpus-per-task 1\.5 is neither"):
        Cluster(address="auto", gpus_per_task=1.5)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"--ray needs Ray, which is not installed \(pip install 'medzoo\[ray\]'\)"):
        Cluster(address="local")


def test_node_copies_files_where_the_work_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "there"
    (source / "checkpoints").mkdir(parents=True)
    for name in ("a.txt", ".hidden", "checkpoints/last.txt"):
        (source / name).write_text(name)
    assert files_in(source) == [source / "a.txt"]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    work, files = pack(WriteSignals(source)), [*read_files([source])]
    started = [
        Node(Start(run="1", node=name, work=work, files=files, shared=shared, threads=1, get=lambda chunk: chunk))
        for name, shared in (("first", []), ("second", [str(source)]))
    ]
    for node in started:
        assert node.call("new.txt", [])[0] == "done"
    copies = [*(tmp_path / "temporary").glob("*/1-first/**/a.txt")]
    assert [copy.read_text() for copy in copies] == ["a.txt"]
    assert (copies[0].parent / "new.txt").is_file()
    assert (source / "new.txt").is_file()  # of the node that shares the folder
    started[0].clean()
    assert not copies[0].exists()
