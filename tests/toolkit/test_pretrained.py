"""Weights that others published are read only if they are the bytes that were meant, and only tensors of them."""

import hashlib
import pickle

import pytest
import torch

from medzoo.errors import IntegrityError, ResourceError
from medzoo.toolkit.nn.pretrained import read_weights


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_read_weights_matching_hash(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"layer.weight": torch.arange(6.0)}, path)
    assert read_weights(path, sha256=sha256(path), hint="")["layer.weight"].tolist() == [0, 1, 2, 3, 4, 5]


def test_read_weights_wrong_hash_raises_before_unpickling(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    torch.save({}, path)
    monkeypatch.setattr("torch.load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(IntegrityError, match=r"expected 000000000000\.\.\. .pull it"):
        read_weights(path, sha256="0" * 64, hint="pull it")
    with pytest.raises(ResourceError, match="cannot read the weights"):
        read_weights(tmp_path / "none.pth", sha256="0" * 64, hint="pull it")


class Harm:
    def __reduce__(self):
        return print, ("harm",)


def test_read_weights_runs_no_code(tmp_path, capsys):
    path = tmp_path / "weights.pth"
    torch.save({"layer": Harm()}, path)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        read_weights(path, sha256=sha256(path), hint="")
    assert "harm" not in capsys.readouterr().out
