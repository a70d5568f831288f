"""The gallery: pages of models from cards and the registry, the same bytes twice, and nothing of a stranger's runs."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.html_page import Page
from PIL import Image

import medzoo as api
from medzoo.data.marks import read_marks
from medzoo.errors import DataError
from medzoo.hub.registry import load_registry
from medzoo.report.gallery.card import render_card
from medzoo.report.gallery.images import card_samples
from medzoo.storage.paths import bundled_root

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of the bundled models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        patch.setenv("MEDZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name in ("MEDZOO_REGISTRY", "MEDZOO_MIRROR"):
            patch.delenv(name, raising=False)
        return api.gallery(tmp_path_factory.mktemp("site") / "site").index.parent


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pages_of(folder: Path) -> dict[str, Page]:
    return {
        name: Page(re.sub(r"<script>.*?</script>", "", data.decode(), flags=re.DOTALL))
        for name, data in bytes_of(folder).items()
        if name.endswith(".html")
    }


def replace_readme(published, text: str) -> None:
    """Give a published model another card, in its mirror and its registry entry."""
    old, new = published.files["README.md"], text.encode()
    published.path("README.md").write_bytes(new)
    registry = published.registry.read_text()
    for before, after in (
        (hashlib.sha256(old).hexdigest(), hashlib.sha256(new).hexdigest()),
        (f"bytes = {len(old)} ", f"bytes = {len(new)} "),
    ):
        assert before in registry
        registry = registry.replace(before, after, 1)
    published.registry.write_text(registry)


# Pages


def test_gallery_has_a_page_per_model_and_links_that_lead_somewhere(site: Path) -> None:
    pages = pages_of(site)
    names = [entry.name for entry in load_registry().entries]
    assert set(pages) == {"index.html", *(f"models/{name}.html" for name in names)}
    ids = {name: {own["id"] for _, own in page.tags if own.get("id")} for name, page in pages.items()}
    for name, page in pages.items():
        for link in page.all("a"):
            target, _, anchor = (link["href"] or "").partition("#")
            if not target:
                assert anchor in ids[name], (name, link)
            elif not target.startswith("https://"):
                assert (site / name).parent.joinpath(target).resolve().is_relative_to(site)
                assert (site / name).parent.joinpath(target).is_file(), (name, link)
    assert len(pages["index.html"].all("li")) > len(names)


def test_gallery_model_page_says_what_the_model_is(site: Path) -> None:
    page = pages_of(site)["models/cnn-busi.html"]
    assert "balanced accuracy 0.717 0.333" in page.text
    assert "accuracy 0.698 0.556" in page.text  # 35 of 63 are benign
    assert "recall malignant, 17 images 0.647 not stated" in page.text
    entry = load_registry().model("cnn-busi")
    assert all(file.sha256 in page.text for file in entry.files)
    assert "medzoo classify predict cnn-busi --data YOUR_IMAGES" in page.text
    assert "License cc-by-4.0" in page.text
    assert "It is a weak classifier, by its scores" in page.text  # the card
    generator = pages_of(site)["models/ddpm-udder.html"]
    assert "medzoo augment --gen ddpm-udder --data YOUR_IMAGES --to 500" in generator.text
    assert "network.block_out_channels 48, 64, 96" in generator.text.replace(" . ", ".")


def test_gallery_images_say_what_they_show_and_headings_are_in_order(site: Path) -> None:
    for name, page in pages_of(site).items():
        levels = [HEADINGS.index(tag) for tag, _ in page.tags if tag in HEADINGS]
        assert levels[0] == 0
        assert levels.count(0) == 1
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), name
        images = page.all("img")
        assert all(image["alt"] and image["src"].startswith("data:") for image in images), name
        first = next(own for tag, own in page.tags if tag == "a")
        assert first["href"] == "#main"  # the skip link
    page = pages_of(site)["models/ddpm-udder.html"]
    assert [image["alt"] for image in page.all("img")][12] == "Synthetic narrow-canal, 1 of 12, by ddpm-udder"


@pytest.mark.parametrize("name", [path.parent.name for path in sorted(bundled_root().glob("cards/*/samples.png"))])
def test_card_samples_are_taken_apart_and_marked(name: str) -> None:
    entry = load_registry().model(name)
    samples = card_samples(bundled_root() / "cards" / name / "samples.png", entry)
    assert list(samples.by_class) == list(entry.classes)
    assert {len(images) for images in samples.by_class.values()} == {12}
    data = base64.b64decode(samples.first[0].uri.partition(",")[2])
    image = Image.open(io.BytesIO(data))
    assert image.size == (entry.size, entry.size)
    assert read_marks(image).synthetic
    assert read_marks(image).facts["generator"] == name


def test_card_samples_of_another_layout_stay_whole(tmp_path: Path) -> None:
    entry = load_registry().model("ddpm-busi")
    pixels = np.random.default_rng(0).integers(0, 256, (3 * 66 + 2, 5 * 66 + 2, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "samples.png")
    samples = card_samples(tmp_path / "samples.png", entry)
    assert not samples.by_class
    assert samples.sheet is not None
    assert samples.sheet.alt == "Synthetic images by ddpm-busi, one row per class: benign, malignant, normal"


# Bytes and folders


def test_gallery_again_gives_the_same_bytes(site: Path, tmp_path: Path) -> None:
    api.gallery(tmp_path / "site")
    assert bytes_of(tmp_path / "site") == bytes_of(site)


def test_gallery_brings_an_earlier_one_up_to_date(medzoo, publish, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "site"
    publish("mine")
    assert medzoo("gallery", out).code == 0
    (out / ".nojekyll").touch()
    assert (out / "models" / "mine.html").is_file()
    monkeypatch.delenv("MEDZOO_REGISTRY")
    found = medzoo("gallery", out, "--json")
    assert "mine" not in json.loads(found.out)["models"]
    assert not (out / "models" / "mine.html").exists()
    assert (out / ".nojekyll").exists()
    (out / "models" / "CNAME").write_text("example.org")
    refused = medzoo("gallery", out)
    assert refused.code == 5
    assert f"{out} holds a file that is not of its gallery: models/CNAME" in refused.err


def test_gallery_refuses_a_folder_of_others(medzoo, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    found = medzoo("gallery", tmp_path)
    assert found.code == 5
    assert found.err.splitlines() == [
        f"error: {tmp_path} holds other files",
        "  choose another folder, or empty it",
    ]
    with pytest.raises(DataError, match="is a file"):
        api.gallery(tmp_path / "notes.txt")


# Models of others


def test_gallery_shows_remote_models_as_such(medzoo, publish, tmp_path: Path) -> None:
    publish("far", mirror=False)
    found = medzoo("gallery", tmp_path / "site")
    assert found.code == 0
    assert found.out.split() == [str(tmp_path / "site" / "index.html")]
    assert "shown without their images and cards, as they are not on this machine: far" in found.err
    page = pages_of(tmp_path / "site")["models/far.html"]
    assert "remote only" in page.text
    assert "medzoo pull far" in page.text
    assert not page.all("img")


HOSTILE = """---
license: mit
---
# Title <script>alert(1)</script>

#### Deep

<img src=x onerror=alert(2)>

<script>alert(3)</script>

![a picture](https://example.org/track.png) ![samples](samples.png)

[click](javascript:alert(4)) [data](data:text/html,<b>) [file](../../etc/passwd) [web](https://example.org/"onclick="x)

<https://example.org/auto> [case](JaVaScRiPt:alert(5))

| a | b |
|---|---|
| <b>1</b> | 2 |
"""


def test_gallery_card_of_a_stranger_runs_nothing(publish, tmp_path: Path) -> None:
    replace_readme(publish("evil", extra=""), HOSTILE)
    api.gallery(tmp_path / "site")
    text = (tmp_path / "site" / "models" / "evil.html").read_text("utf-8")
    assert text.count("<script") == 1
    page = pages_of(tmp_path / "site")["models/evil.html"]
    assert not page.all("img")
    assert not page.all("b")
    assert "<script>alert(3)</script>" in page.text  # as text
    assert "[image: a picture]" in page.text
    assert not [own for _, own in page.tags if any(name.startswith("on") for name in own)]
    targets = [link["href"] or "" for link in page.all("a")]
    assert [target for target in targets if not target.startswith(("#", "../", "https://example.org/"))] == []
    assert "../../etc/passwd" not in targets
    assert all(link["rel"] == "noopener noreferrer" for link in page.all("a") if link["href"].startswith("https"))


def test_gallery_leaves_out_files_that_are_not_the_registrys(publish, tmp_path: Path, logged) -> None:
    published = publish("changed")
    path = published.path("README.md")
    path.write_bytes(path.read_bytes().replace(b"Made", b"Evil"))
    api.gallery(tmp_path / "site")
    assert [line for line in logged if "README.md is not the file that the registry names" in line]
    assert "Evil for a test" not in pages_of(tmp_path / "site")["models/changed.html"].text


def test_render_card_headings_never_skip() -> None:
    html = render_card("---\na: 1\n---\n### first\n\n# second\n\n###### third\n")
    assert re.findall(r"<(h\d)>", html) == ["h3", "h3", "h4"]


# Sampling


def test_gallery_sample_draws_anew(publish, tmp_path: Path, monkeypatch) -> None:
    registry = load_registry()
    few = registry.model("dcgan-busi")
    monkeypatch.setattr(
        "medzoo.report.gallery.site.load_registry", lambda **_: type(registry)(entries=(few,), assets=registry.assets)
    )
    api.gallery(tmp_path / "one", sample=2, seed=3, device="cpu")
    api.gallery(tmp_path / "two", sample=2, seed=3, device="cpu")
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    page = pages_of(tmp_path / "one")["models/dcgan-busi.html"]
    assert len(page.all("img")) == 6
    assert "2 of each class, sampled with seed 3, not selected." in page.text
