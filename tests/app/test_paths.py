"""Nothing outside the served folder is reached, whatever a request names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medzoo.app.paths import STATE, inside, list_folders, list_pages, new_folder_path, open_data, open_root
from medzoo.errors import ConfigError, DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A served folder with a set of images, beside a folder that is not served."""
    (tmp_path / "outside" / "a").mkdir(parents=True)
    (tmp_path / "outside" / "secret.html").write_text("secret")
    (tmp_path / "served" / "scans" / "normal").mkdir(parents=True)
    return open_root(tmp_path / "served")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/etc/passwd",
        "../outside",
        "scans/../../outside",
        "~",
        "~root",
        "a\0b",
        "..",
        "a\\..\\b",
        "C:/x",
        "x/" * 2000,
        "x" * 300,
    ],
    ids=range(12),
)
def test_inside_traversal(root: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        inside(root, text)


def test_inside_link_out(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "outside")
    (root / "within").symlink_to(root / "scans")
    with pytest.raises(ConfigError, match="leads out of the served folder"):
        inside(root, "link/secret.html")
    assert inside(root, "within/normal") == root / "scans" / "normal"
    (root / "circle").symlink_to(root / "circle")
    with pytest.raises(ConfigError):
        inside(root, "circle/x")


def test_open_data_links_and_tables(root: Path) -> None:
    assert open_data(root, "scans") == root / "scans"
    (root / "table.csv").write_text("file,label\n/etc/passwd,a\n")
    with pytest.raises(DataError, match="neither a folder nor an npz"):
        open_data(root, "table.csv")
    np.savez(root / "set.npz", x=np.zeros(1))
    assert open_data(root, "set.npz").name == "set.npz"
    (root / "scans" / "normal" / "1.png").symlink_to(root.parent / "outside" / "secret.html")
    with pytest.raises(DataError, match=r"scans/normal/1.png is a link that leads out"):
        open_data(root, "scans")
    with pytest.raises(DataError, match="does not exist"):
        open_data(root, "nothing")


def test_open_data_parts_beside(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="the folders beside train are read with it"):
        open_data(open_root(tmp_path / "train"), ".")
    (tmp_path / "test" / "a" / "1.png").symlink_to("/etc/hostname")
    with pytest.raises(DataError, match=r"test/a/1.png is a link"):
        open_data(open_root(tmp_path), "train")


def test_new_folder_path(root: Path) -> None:
    assert new_folder_path(root, "scans-500") == root / "scans-500"
    for text in (".", STATE, f"{STATE}/jobs", "scans/.."):
        with pytest.raises(ConfigError):
            new_folder_path(root, text)
    (root / "out").mkdir()
    (root / "out" / "normal").symlink_to(root.parent / "outside")
    with pytest.raises(DataError, match="out/normal is a link"):
        new_folder_path(root, "out")


def test_lists_follow_no_links(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "outside")
    (root / "linked.html").symlink_to(root.parent / "outside" / "secret.html")
    (root / ".hidden").mkdir()
    (root / "scans" / "report.html").write_text("x")
    assert list_folders(root) == ["scans", "scans/normal"]
    assert list_pages(root) == ["scans/report.html"]


def test_open_root_state_is_link(tmp_path: Path) -> None:
    (tmp_path / STATE).symlink_to("/tmp")
    with pytest.raises(DataError, match="is a link"):
        open_root(tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        open_root(tmp_path / "nothing")
