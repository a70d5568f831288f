"""`medzoo identify`: synthetic, altered, or no mark, by what files say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.image_sets import noise
from PIL import Image

import medzoo as package
from medzoo.data.images import write_image
from medzoo.data.marks import ALTERED, TRAINED, Mark
from medzoo.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sampled image, an altered one in a folder, a real one in capitals, and files that are none."""
    root = tmp_path / "set"
    sampled = Mark(source_type=TRAINED, generator="dcgan-busi", weights_sha256="0123456789ab" + "c" * 52, seed=5)
    write_image(root / "a.png", noise(8, 8)[None], sampled)
    write_image(root / "sub" / "b.png", noise(8, 8)[None], Mark(source_type=ALTERED, generator="classic", seed=1))
    Image.fromarray(noise(8, 8)).save(root / "c.JPG", format="JPEG")
    (root / ".hidden.png").write_bytes(b"x")
    (root / "notes.txt").write_text("x")
    return root


def test_identify(folder: Path) -> None:
    found = package.identify(folder, str(folder / "a.png"))
    assert [(each.path.name, each.verdict) for each in found] == [
        ("a.png", "synthetic"),
        ("c.JPG", "no mark"),
        ("b.png", "altered"),
        ("a.png", "synthetic"),
    ]
    assert found[0].describe() == (
        "program medzoo, generator dcgan-busi, weights 0123456789ab, seed 5; trainedAlgorithmicMedia in XMP and medzoo"
    )
    assert found[1].describe() == ""


def test_identify_names_what_cannot_be_read(folder: Path, medzoo) -> None:
    (folder / "broken.png").write_bytes(b"x")
    outcome = medzoo("identify", folder, "--json")
    assert outcome.code == 5
    assert "error: 1 file could not be read as images" in outcome.err
    rows = {Path(row["path"]).name: row for row in json.loads(outcome.out)}
    assert rows["broken.png"]["reason"] == "it cannot be read: not an image"
    assert rows["a.png"]["facts"]["seed"] == 5


def test_identify_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none does not exist"):
        package.identify(tmp_path / "none")
    with pytest.raises(DataError, match="holds no images"):
        package.identify(tmp_path)
    with pytest.raises(ConfigError, match="no file is given"):
        package.identify()
    with pytest.raises(ConfigError, match="a path"):
        package.identify(3)


def test_identify_says_that_no_mark_is_no_proof(folder: Path, medzoo) -> None:
    outcome = medzoo("identify", folder)
    assert outcome.code == 0
    assert "3 images: 1 synthetic, 1 altered, 1 without mark" in outcome.err
    assert "an image without a mark is not thereby real" in outcome.err
    assert "altered    program medzoo, generator classic, seed 1; algorithmicallyEnhanced" in outcome.out
    assert "not thereby real" not in medzoo("identify", folder / "a.png").err
