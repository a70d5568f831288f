"""Requests to draw and to augment: commands, what is refused, uploads, and the real images nearest to drawn ones."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import numpy as np
import pytest
from helpers.image_sets import noise, write_folder
from PIL import Image

from medzoo.app.augments import AugmentRequest, planned, start_augmenting
from medzoo.app.draws import DrawRequest, find_nearest, save_upload, start_drawing, upload_path
from medzoo.app.generators import DrawableModel
from medzoo.app.jobs import Job, Jobs
from medzoo.app.paths import STATE, open_root
from medzoo.data.images import decode, encode_png
from medzoo.data.marks import TRAINED, Mark
from medzoo.errors import ConfigError, DataError, MedzooError

MODEL = DrawableModel(name="gen", classes=("a", "b c"), multi_label=False, steps=20, guidance=1.5, varies_images=True)


class Recorded(Jobs):
    """Jobs whose processes are not started."""

    def _run(self, folder: Path, lock: int) -> None:
        """Start nothing."""


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    (tmp_path / "served").mkdir()
    return Recorded(open_root(tmp_path / "served"))


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def request(**given: object) -> DrawRequest:
    return DrawRequest(**{"generator": "gen", "labels": ("b c",), "n": 2, "seed": 3, **given})  # type: ignore[arg-type]


def test_draw_request_line_and_python() -> None:
    asked = request(labels=("a", "b c"), steps=5, guidance=2.0, strength=0.3, data="x/real")
    assert shlex.split(asked.line()) == [
        *("medzoo", "sample", "gen@0.3", "--label", "a", "--label", "b c", "--n", "2", "--seed", "3"),
        *("--set", "sampling.num_inference_steps=5", "--set", "sampling.guidance_scale=2"),
        *("--data", "x/real", "--out", "images"),
    ]
    assert asked.python(1).splitlines()[2:] == [
        "images, labels = medzoo.load('gen@0.3', data='x/real', settings={'sampling.num_inference_steps': 5, "
        "'sampling.guidance_scale': 2.0}).sample(['a', 'b c'], n=2, seed=3)",
        "image = images[1]",
    ]
    compile(asked.python(1), "call", "exec")


def test_start_drawing_command(jobs: Jobs) -> None:
    job = start_drawing(jobs, MODEL, request())
    assert job.line == "medzoo sample gen --label 'b c' --n 2 --seed 3 --out .medzoo-app/jobs/000001/images"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": ()}, "no class is chosen"),
        ({"labels": ("../a",)}, "has no class"),
        ({"n": 17}, "too few or too many"),
        ({"steps": 0}, "too few or too many"),
        ({"strength": 0.5}, "none is given"),
    ],
)
def test_start_drawing_refused(jobs: Jobs, given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        start_drawing(jobs, MODEL, request(**given))
    with pytest.raises(ConfigError):
        start_drawing(jobs, MODEL, request(), compare="../outside")
    assert jobs.all() == []


def test_save_upload_keeps_pixels_alone(jobs: Jobs) -> None:
    pixels = noise(1, 30)[0] if noise(1, 30).ndim == 3 else noise(1, 30)
    name = save_upload(jobs.root, png(pixels))
    kept = upload_path(jobs.root, name)
    assert kept.parent == jobs.root / STATE / "uploads"
    assert np.array_equal(decode(kept), pixels)
    assert save_upload(jobs.root, png(pixels)) == name
    wide = np.full((9, 9), 4095, np.uint16)
    wide[0] = 0
    assert decode(upload_path(jobs.root, save_upload(jobs.root, png(wide)))).max() == 255
    job = start_drawing(jobs, MODEL, request(strength=0.5), upload=name)
    assert (job.folder / "real" / "b c" / "image.png").read_bytes() == kept.read_bytes()
    assert "gen@0.5" in job.line
    assert sorted(path.name for path in kept.parent.iterdir() if path.suffix != ".png") == []


def test_start_drawing_without_weights_varies_an_upload(jobs: Jobs) -> None:
    model = DrawableModel(name="classic", classes=("image",), needs_images=True)
    asked = request(generator="classic", labels=("image",))
    with pytest.raises(ConfigError, match="varies a real image, and none is given"):
        start_drawing(jobs, model, asked)
    job = start_drawing(jobs, model, asked, upload=save_upload(jobs.root, png(np.eye(9, dtype=np.uint8) * 200)))
    assert "--data .medzoo-app/jobs/000001/real" in job.line
    assert (job.folder / "real" / "image" / "image.png").is_file()
    assert job.about["nearest"] == ".medzoo-app/jobs/000001/real"


@pytest.mark.parametrize("body", [b"", b"no image", b"<svg/>", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0"])
def test_save_upload_no_image(jobs: Jobs, body: bytes) -> None:
    with pytest.raises(DataError, match=r"^this file "):
        save_upload(jobs.root, body)
    assert list((jobs.root / STATE / "uploads").iterdir()) == []


def test_save_upload_synthetic(jobs: Jobs) -> None:
    body = encode_png(np.zeros((1, 9, 9), np.uint8), Mark(source_type=TRAINED, generator="gen"))
    with pytest.raises(DataError, match="marked as synthetic"):
        save_upload(jobs.root, body)


@pytest.mark.parametrize("name", ["", "../../../etc/pass", "0123456789abcdef", "a/b", "x" * 16])
def test_upload_path_unknown(jobs: Jobs, name: str) -> None:
    with pytest.raises(ConfigError, match="the uploaded image is gone"):
        upload_path(jobs.root, name)


def test_find_nearest(tmp_path: Path) -> None:
    write_folder(tmp_path / "real", {"a": 3, "b": 3})
    (tmp_path / "drawn" / "a").mkdir(parents=True)
    copy = sorted((tmp_path / "real" / "b").iterdir())[1]
    (tmp_path / "drawn" / "a" / "synthetic-gen-000000.png").write_bytes(copy.read_bytes())
    counted: list[tuple[int, int]] = []
    found = find_nearest(
        tmp_path / "drawn", tmp_path / "real", progress=lambda done, total: counted.append((done, total))
    )
    [row] = found.values()
    assert (row["name"], row["label"], row["correlation"]) == (f"b/{copy.name}", "b", 1.0)
    assert row["uri"].startswith("data:image/png;base64,")
    assert counted == [(0, 1), (1, 1)]


def test_start_augmenting_commands(jobs: Jobs) -> None:
    write_folder(jobs.root / "-scans", {"a": 2})
    asked = AugmentRequest(generator="gen", to=50, data="-scans", out="-filled", strength=0.3, select=("novelty",))
    assert start_augmenting(jobs, MODEL, asked).command == (
        *("augment", "--gen", "gen@0.3", "--to", "50", "--data", "./-scans", "--out", "./-filled"),
        *("--seed", "0", "--select", "novelty"),
    )
    plan = start_augmenting(jobs, MODEL, asked, plan=True)
    assert plan.command[-2:] == ("--dry-run", "--json")
    assert planned(plan) is None
    (plan.folder / "output.txt").write_text('{"classes": [{"label": "a"}]}')
    assert planned(plan) == {"classes": [{"label": "a"}]}


@pytest.mark.parametrize(
    "given",
    [
        {"data": ""},
        {"out": ""},
        {"to": 0},
        {"data": "../scans"},
        {"out": "../filled"},
        {"out": "/tmp/filled"},
        {"out": "scans/filled"},
        {"out": ".medzoo-app/jobs"},
        {"out": "linked/filled"},
        {"select": ("--data",)},
    ],
)
def test_start_augmenting_refused(jobs: Jobs, given: dict[str, object]) -> None:
    write_folder(jobs.root / "scans", {"a": 2})
    (jobs.root / "linked").symlink_to(jobs.root.parent)
    asked = {"generator": "gen", "to": 5, "data": "scans", "out": "filled", **given}
    with pytest.raises(MedzooError):
        start_augmenting(jobs, MODEL, AugmentRequest(**asked))  # type: ignore[arg-type]
    assert jobs.all() == []


def test_job_line_quotes() -> None:
    job = Job(id="000001", folder=Path(), kind="draw", command=("sample", "a b"), state="done")
    assert job.line == "medzoo sample 'a b'"
