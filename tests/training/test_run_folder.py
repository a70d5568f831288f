"""What a run keeps on disk."""

from __future__ import annotations

import pytest
import torch

from medzoo.errors import IntegrityError
from medzoo.specs import ImageSpec
from medzoo.storage.paths import latents_root
from medzoo.training.run_folder import LossTable, RunFolder, cached_tensors


def test_cached_tensors_without_a_cache(monkeypatch, tmp_path, logged):
    computed = []

    def compute():
        computed.append(1)
        return {"x": torch.arange(3)}

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDZOO_CACHE", str(tmp_path / "file"))
    for times in (1, 2):
        assert cached_tensors(latents_root(), "key", compute)["x"].tolist() == [0, 1, 2]
        assert len(computed) == times
    assert len(logged) == 1
    assert "set MEDZOO_CACHE to a writable folder" in logged[0]
    monkeypatch.setenv("MEDZOO_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        assert cached_tensors(latents_root(), "key", compute)["x"].tolist() == [0, 1, 2]
    assert len(computed) == 3


@pytest.mark.parametrize(
    "text",
    ["step,loss,seconds\n1,abc,1\n", "loss\n1\n", "step,loss\n1,2\n", "step,seconds\n1,1,1,1\n"],
)
def test_loss_table_damaged(tmp_path, text):
    (tmp_path / "loss.csv").write_text(text)
    with pytest.raises(IntegrityError, match=r"loss\.csv is damaged") as caught:
        LossTable(tmp_path / "loss.csv").rewind(9)
    assert "delete it" in caught.value.hint


def test_loss_table_not_text(tmp_path):
    (tmp_path / "loss.csv").write_bytes(b"step\n\xff\n")
    with pytest.raises(IntegrityError, match="is damaged"):
        LossTable(tmp_path / "loss.csv").rewind(9)


@pytest.mark.parametrize("text", ['{"a', "[" * 100_000, "[]", '{"a": 5}', ""])
def test_load_checkpoint_damaged_notes(tmp_path, text):
    folder = RunFolder(
        tmp_path, image=ImageSpec(size=8, channels=1, classes=("a",)), seed=0, keep=0, cache=tmp_path / "cache"
    )
    folder.save_checkpoint(1, {"step": torch.tensor(1)})
    (tmp_path / "notes.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"notes\.json is damaged"):
        folder.load_checkpoint()
