"""Files of tensors: what is read is what was written, or it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from medzoo.errors import DataError, IntegrityError
from medzoo.storage.tensors import read_cached_tensors, read_tensors, write_tensors

TENSORS = {
    "float": torch.tensor([[1.5, -2.0], [float("nan"), float("inf")]]),
    "half": torch.arange(3, dtype=torch.bfloat16),
    "number": torch.tensor(7),
    "flags": torch.tensor([True, False]),
    "nothing": torch.empty(0, 4),
    "turned": torch.arange(6.0).reshape(2, 3).T,
}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name].nan_to_num(0), right[name].nan_to_num(0))
        for name in left
    )


def test_write_tensors_reads_back(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", TENSORS)
    assert same(read_tensors(tmp_path / "file"), TENSORS)
    assert same(load_file(tmp_path / "file"), TENSORS)  # other programs read it too
    first = (tmp_path / "file").read_bytes()
    write_tensors(tmp_path / "file", dict(reversed(TENSORS.items())))
    assert (tmp_path / "file").read_bytes() == first


def test_read_tensors_any_flipped_bit(tmp_path: Path) -> None:
    path, written = tmp_path / "file", {"a": torch.arange(5.0), "b": torch.tensor(3)}
    write_tensors(path, written)
    content, refused = path.read_bytes(), 0
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            # A bit of the hash's own name makes the file one without a hash, which is as it was written.
            assert same(read_tensors(path), written)
        except IntegrityError:
            refused += 1
    assert refused > 8 * (len(content) - 16)


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_read_tensors_cut_short(tmp_path: Path, size: int) -> None:
    write_tensors(tmp_path / "file", TENSORS)
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:size])
    with pytest.raises(IntegrityError, match="file is damaged"):
        read_tensors(tmp_path / "file")


def test_read_tensors_swapped_names(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", {"aa": torch.zeros(2), "ab": torch.ones(2)})
    content = (tmp_path / "file").read_bytes()
    swapped = content.replace(b'"aa"', b'"??"').replace(b'"ab"', b'"aa"').replace(b'"??"', b'"ab"')
    (tmp_path / "file").write_bytes(swapped)
    with pytest.raises(IntegrityError, match="differs from the sha256"):
        read_tensors(tmp_path / "file")


def test_read_tensors_without_a_hash(tmp_path: Path, logged: list[str]) -> None:
    save_file(TENSORS | {"turned": torch.ones(1)}, tmp_path / "file")
    assert same(read_tensors(tmp_path / "file"), TENSORS | {"turned": torch.ones(1)})
    assert read_cached_tensors(tmp_path / "file") is None
    assert logged == []


def test_read_tensors_missing_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "file")
    with pytest.raises(DataError, match="cannot be read"):
        read_tensors(tmp_path)
    assert read_cached_tensors(tmp_path / "file") is None


def test_read_cached_tensors_damaged(tmp_path: Path, logged: list[str]) -> None:
    write_tensors(tmp_path / "file", TENSORS)
    assert same(read_cached_tensors(tmp_path / "file") or {}, TENSORS)
    assert logged == []
    content = bytearray((tmp_path / "file").read_bytes())
    content[-1] ^= 64
    (tmp_path / "file").write_bytes(content)
    assert read_cached_tensors(tmp_path / "file") is None
    assert logged == [f"{tmp_path / 'file'} is damaged: its content differs from the sha256 in it; computing it again"]
