"""Files are written whole or not at all, whatever they are called."""

from __future__ import annotations

import os

import pytest

from medzoo.errors import ResourceError
from medzoo.storage.files import new_folder, read_json, write_atomic

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
