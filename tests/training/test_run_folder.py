"""What a run keeps on disk."""

from __future__ import annotations

import torch

from medzoo.storage.paths import latents_root
from medzoo.training.run_folder import cached_tensors


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
