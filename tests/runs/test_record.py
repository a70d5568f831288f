import errno
import hashlib
import json
import os
import sys
from datetime import datetime

import pytest

import medzoo
from medzoo.errors import DataError, ResourceError
from medzoo.plugins.lookup import load_plugins
from medzoo.runs.record import RunRecord, git_commit, library_versions, read_run
from medzoo.storage.files import sha256_file, write_atomic, write_json_atomic


def test_run_record_finish_writes_every_field(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"pixels")
    record = RunRecord(
        job="augment",
        folder=tmp_path,
        config={"image.size": 64},
        origins={"image.size": "--set"},
        plugins=[load_plugins().plugin_of("generator", "ddpm")],
        weights={"ddpm-test": "ab" * 32},
        data={"fingerprint": "cd" * 32},
        seeds={"base": 7},
        device="cpu",
        extra={"shard": [1, 2]},
    )
    record.add_outputs([tmp_path / "a" / "1.png"])
    record.scores = {"fid": {"value": 1.0, "n_real": 3, "n_fake": 4}}
    assert record.finish() == tmp_path / "run.json"
    run = read_run(tmp_path)
    assert run["job"] == "augment"
    assert run["command"] == sys.argv
    assert run["medzoo"] == medzoo.__version__
    assert run["plugins"] == {"ddpm": {"distribution": "medzoo", "version": medzoo.__version__}}
    assert run["libraries"]["torch"]
    assert run["config"] == {"image.size": 64}
    assert run["origins"] == {"image.size": "--set"}
    assert run["weights"] == {"ddpm-test": "ab" * 32}
    assert run["data"] == {"fingerprint": "cd" * 32}
    assert run["seeds"] == {"base": 7}
    assert run["outputs"] == [{"file": "a/1.png", "sha256": hashlib.sha256(b"pixels").hexdigest()}]
    assert run["scores"]["fid"]["n_real"] == 3
    assert run["shard"] == [1, 2]
    assert datetime.fromisoformat(run["started"]) <= datetime.fromisoformat(run["ended"])
    assert run["seconds"] >= 0


def test_read_run_unfinished_is_none(tmp_path):
    RunRecord(job="train", folder=tmp_path)
    assert read_run(tmp_path) is None
    assert read_run(tmp_path / "none") is None


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_read_run_damaged_record_raises(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DataError, match=r"run\.json is not a run's record"):
        read_run(tmp_path)


def test_run_record_nan_score_raises(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        RunRecord(job="evaluate", folder=tmp_path, scores={"fid": float("nan")}).finish()
    assert list(tmp_path.iterdir()) == []


def test_library_versions_include_missing_packages():
    versions = library_versions()
    assert versions["python"].startswith("3.")
    assert set(versions) >= {"torch", "diffusers", "accelerate", "numpy"}


def test_git_commit_is_full_hash_or_none():
    commit = git_commit()
    assert commit is None or len(commit.removesuffix("-dirty")) == 40


def test_git_commit_without_git_is_none(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None


def test_write_atomic_replaces_file_with_default_permissions(tmp_path):
    path = tmp_path / "new" / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert sha256_file(path) == hashlib.sha256(b"two").hexdigest()
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert path.stat().st_mode == plain.stat().st_mode
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_write_json_atomic_failure_keeps_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_json_atomic(path, {"old": 1})

    def refuse(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(ResourceError, match="the disk is full"):
        write_json_atomic(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_write_atomic_other_os_error_is_unchanged(tmp_path, monkeypatch):
    def fail(handle):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="input/output error"):
        write_atomic(tmp_path / "file", b"")
