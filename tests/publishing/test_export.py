"""Exported generators give the images of medzoo, without medzoo: diffusers, ONNX, torch, and the numbers alone."""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import medzoo as api
from medzoo import ImageSpec
from medzoo import config as settings
from medzoo.data.pixels import to_uint8
from medzoo.errors import ConfigError, DataError
from medzoo.models.folder import save_model
from medzoo.models.labels import label_tensor
from medzoo.models.loading import build_model
from medzoo.plugins.lookup import load_plugins
from medzoo.publishing.checks import find_local_identifiers
from medzoo.publishing.exported import sample as script
from medzoo.toolkit.spectrum import POINTS

# Between them: all samplers, all predictions, guidance, several labels, learned variance, gains, folded pixels.
KINDS = {
    "ddpm": {"network.patch_size": 2, "sampling.remove_pattern": 2, "diffusion.prediction_type": "epsilon"},
    "ddpm-var": {
        "sampling.scheduler": "ddpm",
        "sampling.guidance_scale": 3.0,
        "diffusion.prediction_type": "v_prediction",
        "image.channels": 3,
    },
    "ldm": {
        "sampling.scheduler": "sde-dpm-solver++",
        "sampling.timestep_spacing": "karras",
        "sampling.guidance_interval": (0.3, 3.0),
        "sampling.remove_pattern": 4,
        "diffusion.prediction_type": "edm",
    },
    "latent-ddpm": {"sampling.scheduler": "ddim", "sampling.spectrum_gain": (1.0,) * 6 + (1.5,) * (POINTS - 6)},
    "dcgan": {"network.latent_dim": 20, "sampling.spectrum_gain": (1.0, 1.3)},
}
CLASSES = ("benign", "malignant", "normal")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"
SEED = 7
COUNT = 3

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with an untrained tiny model of each kind, whose card has a license."""
    root, plugins = tmp_path_factory.mktemp("models"), load_plugins()
    for kind, overrides in KINDS.items():
        spec = plugins.generator(kind)
        common = {} if kind == "dcgan" else {"sampling.num_inference_steps": 7}
        resolved = settings.resolve(spec.config, presets=spec.presets, preset="tiny", overrides={**common, **overrides})
        channels = resolved.value.image.channels
        image = ImageSpec(size=16, channels=channels, classes=CLASSES, multi_label=kind == "ldm")
        model = build_model(spec, resolved, image, device="cpu")
        if kind == "dcgan":  # its fresh weights make gray images
            model.load_state_dict({name: value * 4 for name, value in model.state_dict().items()})
        save_model(root / kind, model, spec=spec, config=resolved, data={"name": "test", "images": []})
        (root / kind / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# A card\n", "utf-8")
    return {kind: root / kind for kind in KINDS}


@pytest.fixture(scope="module")
def exported(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Export a model in a format, once for all tests."""
    root = tmp_path_factory.mktemp("exported")

    @functools.cache
    def export(kind: str, format: str) -> Path:
        return api.export(folders[kind], format=format, out=root / f"{kind}-{format}").folder  # type: ignore[arg-type]

    return export


def labels_of(kind: str) -> list[str]:
    """Labels of one image: two at once of a multi-label model."""
    return ["benign", "normal"] if kind == "ldm" else ["malignant"]


def medzoo_pixels(folder: Path) -> np.ndarray:
    """The images of `medzoo.sample`, uint8 (N, C, H, W)."""
    images = api.load(folder, device="cpu").sample(labels_of(folder.name), n=COUNT, seed=SEED).images
    return to_uint8(images)


def differ(first: np.ndarray, second: np.ndarray) -> int:
    """The largest difference of two arrays of uint8."""
    assert first.shape == second.shape
    return int(np.abs(first.astype(int) - second.astype(int)).max())


def pixels_of_script(folder: Path, description: dict, networks: dict) -> np.ndarray:
    """The images of sample.py's loop for those of `medzoo_pixels`."""
    label = "|".join(labels_of(folder.name))
    seeds = script.image_seeds(description, label, COUNT, seed=SEED)
    labels = script.label_array(description, [label] * COUNT)
    return to_uint8(script.sample(description, networks, labels, seeds))


@every_kind
def test_export_steps_as_numbers_give_the_images(folders: dict[str, Path], kind: str) -> None:
    model = api.load(folders[kind], device="cpu")
    found = model.generator.export()
    description = {
        "name": kind,
        "image": model.image.to_dict(),
        "noise_shape": found.noise_shape,
        **json.loads(json.dumps(found.sampling)),
    }

    def call(module: torch.nn.Module, *arrays: np.ndarray) -> np.ndarray:
        return module(*map(torch.from_numpy, arrays)).numpy()

    networks = {
        name: lambda *arrays, module=network.module: call(module, *arrays) for name, network in found.networks.items()
    }
    assert differ(pixels_of_script(folders[kind], description, networks), medzoo_pixels(folders[kind])) <= 1
    assert np.ptp(medzoo_pixels(folders[kind])) > 20


@pytest.mark.parametrize("shape", [(16,), (20,), (3, 8, 8)])
def test_noise_draws_as_torch(shape: tuple[int, ...]) -> None:
    ours, theirs = script.Noise(2**32 - 5), torch.Generator().manual_seed(2**32 - 5)
    for _ in range(3):
        expected = torch.randn(shape, generator=theirs)
        torch.testing.assert_close(torch.from_numpy(ours(shape)), expected, atol=1e-5, rtol=1e-5)


def test_noise_few_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 16"):
        script.Noise(0)((8,))


@pytest.mark.parametrize(("kind", "format"), [("ddpm-var", "onnx"), ("dcgan", "onnx"), ("ldm", "torch")])
def test_export_networks_give_the_images(
    folders: dict[str, Path], exported: Callable[[str, str], Path], kind: str, format: str
) -> None:
    out = exported(kind, format)
    description = json.loads((out / "sampling.json").read_text("utf-8"))
    networks = script.load_networks(out, description)
    assert differ(pixels_of_script(folders[kind], description, networks), medzoo_pixels(folders[kind])) <= 1
    assert description["image"]["classes"] == list(CLASSES)
    for network in description["networks"].values():
        assert all(given["shape"][0] == "batch" for given in network["inputs"].values())
        assert str(Path(api.__file__).parent).encode() not in (out / network["file"]).read_bytes()
    assert "# A card" in (out / "MODEL_CARD.md").read_text("utf-8")
    assert "license: cc-by-4.0" in (out / "README.md").read_text("utf-8")
    assert not find_local_identifiers((out / "README.md").read_text("utf-8") + json.dumps(description))


def test_export_script_writes_marked_images(
    folders: dict[str, Path], exported: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = exported("dcgan", "onnx")
    command = ["sample.py", "malignant", "--n", str(COUNT), "--seed", str(SEED), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    runpy.run_path(str(out / "sample.py"), run_name="__main__")
    written = np.stack([np.asarray(Image.open(path)) for path in sorted(tmp_path.iterdir())])[:, None]
    assert differ(written, medzoo_pixels(folders["dcgan"])) <= 1
    assert api.identify(tmp_path)[0].verdict == "synthetic"


# Run where medzoo cannot be imported: each pipeline, then the Python of docs/export.md.
_FRESH = """
import json, sys
plugins = ("medzoo_ddpm", "medzoo_ddpm_var", "medzoo_ldm", "medzoo_latent_ddpm", "medzoo_dcgan")
sys.modules.update(dict.fromkeys(("medzoo", *plugins)))
import numpy as np, torch
from diffusers import DiffusionPipeline

given = json.loads(sys.argv[1])
found = {}
for folder, label, seeds in given["pipelines"]:
    pipeline = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(label, num_images=len(seeds), seed=given["seed"], output_type="np").images
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    number = given["classes"].index(label) if label in given["classes"] else label
    again = pipeline([number] * len(seeds), generator=generators).images
    assert np.array_equal(np.asarray(again[0]).squeeze(), (images[0] * 255).round().astype(np.uint8).squeeze())
    found[folder] = images
np.savez("images.npz", **found)
exec(given["page"])
assert images.shape == (4, 3, 16, 16)
"""


def test_export_diffusers_and_the_page_without_medzoo(
    folders: dict[str, Path], exported: Callable[[str, str], Path], tmp_path: Path
) -> None:
    (tmp_path / "ddpm-busi-diffusers").symlink_to(exported("ddpm", "diffusers"))
    (tmp_path / "ddpm-busi-onnx").symlink_to(exported("ddpm-var", "onnx"))
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    asked: dict[str, tuple[str, str, list[int]]] = {}
    for kind in KINDS:
        label = "|".join(labels_of(kind))
        seeds = script.image_seeds({"name": kind}, label, COUNT, seed=SEED)
        asked[kind] = (str(exported(kind, "diffusers")), label, seeds)
    given = {
        "pipelines": list(asked.values()),
        "classes": CLASSES,
        "seed": SEED,
        "page": "\n".join(["from __future__ import annotations", *blocks]),
    }
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    command = [sys.executable, "-c", _FRESH, json.dumps(given)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    images = np.load(tmp_path / "images.npz")
    for kind, (folder, _, _) in asked.items():
        assert differ(to_uint8(images[folder].transpose(0, 3, 1, 2)), medzoo_pixels(folders[kind])) <= 1, kind
    (found,) = api.identify(tmp_path / "malignant.png")
    assert found.verdict == "synthetic"


def test_export_page_shows_the_loop() -> None:
    assert inspect.getsource(script.sample) in PAGE.read_text("utf-8")


@pytest.mark.parametrize(
    ("given", "format", "message"),
    [
        ("api-variation", "onnx", "'api-variation' has no weights to export"),
        ("classic", "diffusers", "'classic' has no weights to export"),
        ("ddpm-busi@0.3", "diffusers", "'ddpm-busi@0.3' varies real images, and exported models sample from noise"),
        ("ddpm-busi", "keras", "--format cannot take 'keras'"),
    ],
)
def test_export_refuses_in_one_line(tmp_path: Path, given: str, format: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        api.export(given, format=format, out=tmp_path / "out")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_export_refuses_a_folder_with_files(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(DataError, match="holds other files"):
        api.export(folders["dcgan"], out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_export_without_onnx_names_the_extra(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match="writing ONNX needs onnx and onnxscript") as caught:
        api.export(folders["dcgan"], format="onnx")
    assert caught.value.hint == "pip install 'medzoo[onnx]'"


def test_export_generator_that_does_not_say_how_is_refused(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medzoo.publishing.export.ExportableGenerator", api.Classifier)  # which it is not
    with pytest.raises(ConfigError, match="cannot be exported: the plugin of 'dcgan' does not say how"):
        api.export(folders["dcgan"], out=tmp_path / "out")


def test_export_command_exports_changed_settings(folders: dict[str, Path], tmp_path: Path, medzoo: Callable) -> None:
    out, steps = tmp_path / "out", "sampling.num_inference_steps=3"
    outcome = medzoo("export", folders["latent-ddpm"], "--out", out, "--set", steps, "--json")
    assert outcome.code == 0, outcome.err
    assert "model_index.json" in json.loads(outcome.out)["files"]
    assert len(json.loads((out / "model_index.json").read_text("utf-8"))["settings"]["timesteps"]) == 3
    assert medzoo("export", folders["latent-ddpm"], "--out", out).code == DataError.exit_code


def test_label_array_takes_labels_as_the_networks_do() -> None:
    image = ImageSpec(size=8, channels=1, classes=CLASSES, multi_label=True)
    labels = ["benign|normal", "malignant"]
    found = script.label_array({"image": image.to_dict()}, labels)
    assert np.array_equal(found, label_tensor(image, labels).numpy())
