"""What was pulled is listed, and removed."""

import json
import os
from pathlib import Path

from medzoo.storage.paths import latents_root


def test_cache_lists_models_with_size_and_last_use(medzoo, publish):
    assert "0.0 MB in" in medzoo("cache").err
    published = publish("ddpm-test")
    folder = medzoo("pull", "ddpm-test").out.strip()
    os.utime(folder, (0, 0))
    (entry,) = json.loads(medzoo("cache", "--json").out)
    assert entry["name"] == "ddpm-test"
    assert entry["folder"] == folder
    assert entry["bytes"] == sum(len(data) for data in published.files.values())
    assert entry["used"].startswith(("1970", "1969"))
    medzoo("pull", "ddpm-test")
    assert json.loads(medzoo("cache", "--json").out)[0]["used"] > "2020"
    assert "ddpm-test" in medzoo("cache").out


def test_cache_remove_one_or_all(medzoo, publish):
    folders = []
    for name in ("ddpm-test", "ddpm-other"):
        publish(name)
        folders.append(medzoo("pull", name).out.strip())
    outcome = medzoo("cache", "remove", "ddpm-test")
    assert (outcome.code, outcome.out.strip()) == (0, folders[0])
    assert [os.path.exists(folder) for folder in folders] == [False, True]
    assert medzoo("cache", "remove", "--all").code == 0
    assert json.loads(medzoo("cache", "--json").out) == []


def test_cache_remove_unknown_model(medzoo, publish):
    publish("ddpm-test")
    medzoo("pull", "ddpm-test")
    outcome = medzoo("cache", "remove", "ddpm-tset")
    assert outcome.code == 2
    assert "did you mean ddpm-test?" in outcome.err
    for arguments in ([], ["ddpm-test", "--all"]):
        assert medzoo("cache", "remove", *arguments).code == 2
    assert len(json.loads(medzoo("cache", "--json").out)) == 1


def test_cache_latents_listed_and_removed(medzoo):
    kept = latents_root() / f"{'0' * 64}.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"x" * 1000)
    (entry,) = json.loads(medzoo("cache", "--json").out)
    assert (entry["kind"], entry["name"], entry["bytes"]) == ("latents", "latents", 1000)
    assert medzoo("cache", "remove", "latents").code == 0
    assert not kept.exists()
    assert json.loads(medzoo("cache", "--json").out) == []


def test_cache_remove_all_leaves_what_a_link_leads_to(medzoo, publish, tmp_path):
    publish("ddpm-test")
    folder = Path(medzoo("pull", "ddpm-test").out.strip())
    (tmp_path / "other" / "inner").mkdir(parents=True)
    (tmp_path / "other" / "inner" / "file").write_text("of somebody else")
    (folder.parent.parent / "linked").symlink_to(tmp_path / "other", target_is_directory=True)
    (folder.parent / "linked").symlink_to(tmp_path / "other", target_is_directory=True)
    assert [entry["name"] for entry in json.loads(medzoo("cache", "--json").out)] == ["ddpm-test"]
    assert medzoo("cache", "remove", "--all").code == 0
    assert not folder.exists()
    assert (tmp_path / "other" / "inner" / "file").read_text() == "of somebody else"
