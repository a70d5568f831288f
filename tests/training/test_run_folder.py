"""What a run keeps on disk."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from medzoo.errors import DataError, IntegrityError
from medzoo.specs import ImageSpec
from medzoo.storage.files import temporary_name
from medzoo.storage.paths import latents_root
from medzoo.training.run_folder import LossTable, RunFolder, cached_tensors, checkpoint_files


def run_folder(path, *, keep=0):
    image = ImageSpec(size=8, channels=1, classes=("a",))
    return RunFolder(path, image=image, seed=0, keep=keep, cache=path / "cache")


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


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
    folder = run_folder(tmp_path)
    folder.save_checkpoint(1, {"step": torch.tensor(1)})
    (tmp_path / "notes.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"notes\.json is damaged"):
        folder.load_checkpoint()


def test_cached_tensors_damaged(logged):
    for values in ([1, 2], [3, 4]):
        found = cached_tensors(latents_root(), "key", lambda values=values: {"x": torch.tensor(values)})
        assert found["x"].tolist() == [1, 2]
    flip(latents_root() / "key.safetensors")
    temporary_name(latents_root() / "key.safetensors").write_bytes(b"half")
    assert cached_tensors(latents_root(), "key", lambda: {"x": torch.tensor([5])})["x"].tolist() == [5]
    (line,) = logged
    assert line.endswith("key.safetensors is damaged: its content differs from the sha256 in it; computing it again")
    assert cached_tensors(latents_root(), "key", lambda: {"x": torch.tensor([6])})["x"].tolist() == [5]
    assert [path.name for path in latents_root().iterdir()] == ["key.safetensors"]


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(path.read_bytes()[:50])])
def test_load_checkpoint_damaged_falls_back(tmp_path, logged, damage):
    folder = run_folder(tmp_path)
    for step in (3, 6, 9):
        folder.on_step_end(step, 9, {"loss": 1.0})
        folder.save_checkpoint(step, {"step": torch.tensor(step), "x": torch.arange(9)})
    for step in (6, 9):
        damage(tmp_path / "checkpoints" / f"step-{step:08d}.safetensors")
    logged.clear()
    again = run_folder(tmp_path)
    assert again.load_checkpoint()["step"] == 3
    assert again.resumed_at == 3
    assert [line.split("; ")[-1] for line in logged] == [
        "resuming from step-00000006.safetensors instead",
        "resuming from step-00000003.safetensors instead",
    ]
    assert "step-00000009.safetensors is damaged" in logged[0]
    assert [path.name for path in checkpoint_files(tmp_path)] == ["step-00000003.safetensors"]


def test_load_checkpoint_all_damaged_trains_from_the_first_step(tmp_path, logged):
    run_folder(tmp_path).save_checkpoint(3, {"step": torch.tensor(3)})
    flip(tmp_path / "checkpoints" / "step-00000003.safetensors")
    assert run_folder(tmp_path).load_checkpoint() is None
    assert "training from the first step instead" in logged[0]
    # It would count as the newest, and push out the first good one.
    assert checkpoint_files(tmp_path) == []


def test_load_checkpoint_without_a_hash(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    save_file({"step": torch.tensor(4)}, tmp_path / "checkpoints" / "step-00000004.safetensors")
    assert run_folder(tmp_path).load_checkpoint()["step"] == 4


def test_load_checkpoint_that_may_not_be_read_is_kept(tmp_path):
    path = tmp_path / "checkpoints" / "step-00000004.safetensors"
    path.mkdir(parents=True)  # as root reads everything, what cannot be read is a folder
    with pytest.raises(DataError, match="cannot be read"):
        run_folder(tmp_path).load_checkpoint()
    assert path.exists()


def test_load_checkpoint_changed_notes(tmp_path):
    folder = run_folder(tmp_path)
    folder.save_checkpoint(1, {"step": torch.tensor(1)})
    folder.log_metadata("latents", {"encoded": 48})
    again = run_folder(tmp_path)
    again.load_checkpoint()
    assert again.notes == {"latents": {"encoded": 48}}
    text = (tmp_path / "notes.json").read_text()
    (tmp_path / "notes.json").write_text(text.replace("48", "49"))
    with pytest.raises(IntegrityError, match=r"notes\.json is damaged: its content differs from the checksum in it"):
        again.load_checkpoint()
