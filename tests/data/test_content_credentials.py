"""C2PA manifests: signed with a certificate of the test, read back, and found broken where the file was changed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers.certificates import write_certificate
from helpers.image_sets import noise

from medzoo import identify
from medzoo.data.content_credentials import Manifest, ManifestSigner, read_manifest
from medzoo.data.images import decode, encode_png
from medzoo.data.marks import EDITED, Mark, is_marked
from medzoo.errors import ConfigError
from medzoo.generation.writer import is_whole_png

pytest.importorskip("c2pa")

MARK = Mark(source_type=EDITED, generator="ddpm@0.3", seed=3, label="a", strength=0.3)
PIXELS = noise(1, 16, 16)


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """A marked and signed PNG."""
    (tmp_path / "a.png").write_bytes(ManifestSigner(*write_certificate(tmp_path)).sign(encode_png(PIXELS, MARK), MARK))
    return tmp_path / "a.png"


def test_sign_and_read_back(signed: Path) -> None:
    expected = "valid, signer not on a trust list"
    assert read_manifest(signed) == Manifest(source_type=EDITED, signer="Test signer, Test clinic", signature=expected)
    data = signed.read_bytes()
    assert is_whole_png(data)
    assert is_marked(data, MARK)
    assert len(data) < 8000
    assert (decode(signed) == PIXELS[0]).all()
    [found] = identify(signed)
    assert (found.verdict, found.source_type) == ("synthetic", EDITED)
    assert found.marks == ("XMP", "C2PA", "medzoo")
    assert found.facts["signed_by"] == "Test signer, Test clinic"
    assert f"signed by Test signer, Test clinic, signature {expected}" in found.describe()


def test_read_manifest_of_a_changed_file(signed: Path) -> None:
    data = bytearray(signed.read_bytes())
    data[-30] ^= 1
    signed.write_bytes(data)
    assert read_manifest(signed).signature == "not valid"


def test_read_manifest_without_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode_png(PIXELS, MARK))
    assert read_manifest(tmp_path / "a.png") is None


def test_manifests_are_found_without_the_library(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    [found] = identify(signed)
    assert found.marks == ("XMP", "C2PA", "medzoo")
    assert "signed_by" not in found.facts
    with pytest.raises(ConfigError, match=r"needs c2pa-python \(pip install 'medzoo\[c2pa\]'\)"):
        ManifestSigner(signed, signed)


def test_signer_of_another_curve(tmp_path: Path) -> None:
    signer = ManifestSigner(*write_certificate(tmp_path, curve="SECP384R1"))
    assert len(signer.sign(encode_png(PIXELS), MARK)) > 1000


def test_signer_refuses_what_cannot_sign(tmp_path: Path) -> None:
    chain, _ = write_certificate(tmp_path)
    with pytest.raises(ConfigError, match=r"--c2pa cannot read .*none\.pem: no such file"):
        ManifestSigner(chain, tmp_path / "none.pem")
    with pytest.raises(ConfigError, match=r"chain\.pem is not an unencrypted private key in PEM"):
        ManifestSigner(chain, chain)
    (tmp_path / "other").mkdir()
    _, other = write_certificate(tmp_path / "other")
    with pytest.raises(ConfigError, match="--c2pa cannot"):
        ManifestSigner(chain, other).sign(encode_png(PIXELS), MARK)
