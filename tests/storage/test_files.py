"""Files are written whole or not at all, whatever they are called."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medzoo.errors import DataError, ResourceError
from medzoo.storage.files import (
    check_outside,
    join_name,
    mark_in_use,
    new_folder,
    read_json,
    remove_partial_files,
    temporary_beside,
    temporary_name,
    with_checksum,
    without_checksum,
    write_atomic,
    write_file,
)

# As long as a name may be on most disks, in bytes.
LONGEST = ["a" * 251 + ".png", "胸" * 83 + ".png", "\N{GRINNING FACE}" * 62 + ".png"]


@pytest.mark.parametrize("name", LONGEST)
def test_write_atomic_long_name(tmp_path, name):
    write_atomic(tmp_path / name, b"one")
    write_atomic(tmp_path / name, b"two")
    assert (tmp_path / name).read_bytes() == b"two"
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", LONGEST)
@pytest.mark.parametrize("there", [False, True])
def test_new_folder_long_name(tmp_path, name, there):
    if there:
        (tmp_path / name).mkdir()
    with new_folder(tmp_path / name) as folder:
        (folder / "file").write_text("")
    assert os.listdir(tmp_path) == [name]
    assert os.listdir(tmp_path / name) == ["file"]


def test_write_atomic_name_too_long(tmp_path):
    with pytest.raises(ResourceError, match="its name is too long"):
        write_atomic(tmp_path / ("a" * 300), b"")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", ["", "[" * 100_000, '{"a": ' * 100_000, '{"a"', "<html>", "\x00", "1" * 10_000])
def test_read_json_damaged(tmp_path, text):
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011 - its message is the JSON parser's
        read_json(tmp_path / "file.json")


def test_write_file_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b" / "c.png"
    write_file(path, b"old")
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~os.umask(os.umask(0o022))


def test_write_file_full_disk_keeps_old_file(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.png"
    write_file(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(ResourceError, match=r"cannot write .*a\.png: the disk is full"):
            write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_file_begins_anew_if_its_temporary_file_is_removed(tmp_path, monkeypatch):
    opened = []

    def remove_first(descriptor, operation):
        if not opened:
            opened.extend(tmp_path.iterdir())
            opened[0].unlink()

    monkeypatch.setattr(fcntl, "flock", remove_first)
    write_file(tmp_path / "a", b"data")
    assert len(opened) == 1
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"data")]


def test_write_file_from_many_threads(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_file(tmp_path / "a", bytes([number]) * 100_000), range(40)))
    assert len(set((tmp_path / "a").read_bytes())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_remove_partial_files_spares_those_in_use(tmp_path):
    (tmp_path / "below").mkdir()
    for folder in (tmp_path, tmp_path / "below"):
        temporary_name(folder / "file.png").write_bytes(b"half")
        temporary_name(folder / "folder").mkdir()
        (folder / "mine.part").write_text("not hidden")
        (folder / ".hidden").write_text("no part")
    filled = temporary_name(tmp_path / "filled")
    filled.mkdir()
    with temporary_beside(tmp_path / "written") as written, mark_in_use(filled, folder=True):
        remove_partial_files(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted(
            [tmp_path / "below", tmp_path / "mine.part", tmp_path / ".hidden", written, filled]
        )
        assert len(list((tmp_path / "below").iterdir())) == 4
        remove_partial_files(tmp_path, deep=True)
        assert len(list((tmp_path / "below").iterdir())) == 2
    remove_partial_files(tmp_path)
    assert not filled.exists()


def test_remove_partial_files_spares_one_begun_anew(tmp_path, monkeypatch):
    """Another process may remove what was left, and a writer begin anew under its name, before it is locked."""
    left = temporary_name(tmp_path / "file")
    left.write_bytes(b"left")
    lock = fcntl.flock

    def replaced_before(descriptor, operation):
        left.unlink()
        left.write_bytes(b"anew")
        lock(descriptor, operation)

    monkeypatch.setattr("medzoo.storage.files.fcntl.flock", replaced_before)
    remove_partial_files(tmp_path)
    assert left.read_bytes() == b"anew"


def test_remove_partial_files_of_a_killed_process(tmp_path):
    """The lock of a process ends with it, however it ends."""
    code = (
        "import os, sys, pathlib; from medzoo.storage.files import temporary_beside\n"
        "with temporary_beside(pathlib.Path(sys.argv[1])) as file:\n"
        "    print(file, flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "file")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        left = Path(process.stdout.readline().strip())
        remove_partial_files(tmp_path)
        assert left.exists()
        process.kill()
        process.wait()
    remove_partial_files(tmp_path)
    assert not left.exists()


def test_remove_partial_files_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr("medzoo.storage.files.fcntl", None)
    recent, old = temporary_name(tmp_path / "a"), temporary_name(tmp_path / "b")
    for path in (recent, old):
        path.write_bytes(b"")
    os.utime(old, (1, 1))
    remove_partial_files(tmp_path)
    assert list(tmp_path.iterdir()) == [recent]


def test_remove_partial_files_never_follows_a_link(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("precious")
    (tmp_path / "inside").mkdir()
    temporary_name(tmp_path / "inside" / "x").symlink_to(tmp_path / "outside", target_is_directory=True)
    remove_partial_files(tmp_path / "inside", deep=True)
    assert (tmp_path / "outside" / "file").read_text() == "precious"


def test_write_atomic_removes_what_was_left_of_it(tmp_path):
    left, other = temporary_name(tmp_path / "file"), temporary_name(tmp_path / "other")
    for path in (left, other):
        path.write_bytes(b"half")
    write_atomic(tmp_path / "file", b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([other, tmp_path / "file"])


def test_write_atomic_from_many_threads(tmp_path):
    """None takes another's temporary file for one that was left."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(lambda number: write_atomic(tmp_path / "file", b"%d" % number), range(200)))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_new_folder_removes_what_was_left_of_it(tmp_path):
    for name in ("set", "other"):
        left = temporary_name(tmp_path / name)
        left.mkdir()
        (left / "half.png").write_bytes(b"")
    with new_folder(tmp_path / "set") as folder:
        (folder / "file").write_text("")
    assert sorted(path.name.split(".")[1] for path in tmp_path.glob(".*.part")) == ["other"]


def test_without_checksum_notices_any_change():
    values = {"a": [1, 2.5, None], "b": {"c": "d"}}
    stored = json.loads(json.dumps(with_checksum(values)))
    assert without_checksum(stored) == values
    assert without_checksum(values) == values
    for changed in ({**stored, "a": [1, 2.5, 0]}, {**stored, "e": 1}, {**stored, "sha256": "0" * 64}):
        with pytest.raises(ValueError, match="differs from the checksum"):
            without_checksum(changed)
    with pytest.raises(KeyError):
        without_checksum(values, required=True)


@pytest.mark.parametrize("out", [".", "x", "a/x/y", "../link", "../link/x", "a/../x", "away", "away/x"])
def test_check_outside_inside(tmp_path, out):
    data = tmp_path / "data"
    (data / "a").mkdir(parents=True)
    (tmp_path / "link").symlink_to(data)
    (tmp_path / "elsewhere").mkdir()
    (data / "away").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="is inside the data folder"):
        check_outside(data / out, None, data)
    with pytest.raises(DataError, match="is inside the data folder"):
        check_outside(data / out, tmp_path / "link")


def test_check_outside_the_table_itself(tmp_path):
    (tmp_path / "set.csv").touch()
    (tmp_path / "again.csv").hardlink_to(tmp_path / "set.csv")
    for out in ("set.csv", "again.csv"):
        with pytest.raises(DataError, match="is the data itself"):
            check_outside(tmp_path / out, tmp_path / "set.csv")


def test_check_outside_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "set.csv").touch()
    monkeypatch.chdir(tmp_path)
    for out in ("data2", "x/data", ".", "run", str(tmp_path / "run")):
        check_outside(Path(out), Path("data"), Path("set.csv"), Path("missing"), None)


@pytest.mark.parametrize("stem", ["short", "a" * 255, "胸" * 85, "\N{GRINNING FACE}" * 63, "\udcff" * 250])
def test_join_name_fits_on_a_disk(tmp_path, stem):
    name = join_name(stem, ".contact-sheet.png")
    assert name.endswith(".contact-sheet.png")
    assert len(os.fsencode(name)) <= 255
    (tmp_path / name).touch()
    assert join_name("short", ".png") == "short.png"
