"""What `medzoo inspect` finds: numbers against closed forms, tables against arrays, and which models it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

import medzoo
from medzoo import ImageSpec
from medzoo import config as settings
from medzoo.cli.options import parse_overrides
from medzoo.data.images import decode
from medzoo.errors import ConfigError, DataError, UnknownName
from medzoo.generation.mixture import make_source
from medzoo.generation.sample import prepare
from medzoo.inspection.attention import sample_attention
from medzoo.inspection.label_space import NO_LABEL, label_space, principal_components, tsne_embedding
from medzoo.models.folder import save_model
from medzoo.models.loading import LoadedModel, build_model, load_model
from medzoo.plugins.lookup import load_plugins
from medzoo.protocols import Generator
from medzoo.report.inspection.report import Inspection
from medzoo.storage.files import temporary_name

pytestmark = pytest.mark.xdist_group("inspect")  # one process makes what its tests share

CLASSES = ("benign", "malignant", "normal")
ALL_TABLES = {"cosine", "euclidean", "norms", "pca_labels", "tokens"}


def make(
    folder: Path,
    plugin: str,
    *,
    overrides: Sequence[str] = (),
    classes: Sequence[str] = CLASSES,
    multi_label: bool = False,
) -> Path:
    """A folder with an untrained model."""
    spec = load_plugins().generator(plugin)
    config = settings.resolve(spec.config, presets=spec.presets, preset="tiny", overrides=parse_overrides(overrides))
    image = ImageSpec(size=16, channels=1, classes=tuple(classes), multi_label=multi_label)
    generator = build_model(spec, config, image, device="cpu", seed=0)
    save_model(folder, generator, spec=spec, config=config, data={"name": "test", "images": []})
    return folder


def load(folder: Path) -> LoadedModel[Generator]:
    return load_model(folder, plugins=load_plugins(), device="cpu")


@pytest.fixture(scope="module")
def attending(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("models") / "attending", "ddpm-var", overrides=["diffusion.label_dropout=0.1"])


@pytest.fixture(scope="module")
def inspected(attending: Path, tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    return look(attending, tmp_path_factory.mktemp("inspected") / "out", n=2)


def look(model: Path, out: Path, **options: Any) -> Inspection:
    return medzoo.inspect(model, out=out, device="cpu", **options)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers(path: Path, *columns: str) -> np.ndarray:
    return np.array([[float(row[column]) for column in columns] for row in rows(path)])


def test_inspect_writes_and_records_every_figure_and_table(inspected: Inspection) -> None:
    tables = {f"{name}.csv" for name in (*ALL_TABLES, "pca_tokens", "tsne", "attention")}
    figures = {f"{name}.png" for name in ("pca", "tsne", "distances", "norms", "attention")}
    assert set(inspected.files) == tables | figures
    assert inspected.left_out == ()
    for name in figures:
        assert decode(inspected.folder / name).std() > 5
    record = json.loads((inspected.folder / "run.json").read_text())
    assert {output["file"] for output in record["outputs"]} == tables | figures
    assert record["seeds"] == {"seed": 0}
    assert 0.0 <= record["scores"]["tsne_disparity"] <= 1.0
    assert list(record["plugins"]) == ["ddpm-var"]


def test_inspect_tables_hold_the_arrays(inspected: Inspection, attending: Path) -> None:
    model = load(attending)
    space = label_space(model, seed=0)
    labels = (*CLASSES, NO_LABEL)
    assert space.labels == labels
    expected = model.model.label_tokens(torch.arange(4)).numpy()  # type: ignore[attr-defined]
    assert np.array_equal(space.tokens, expected)
    folder, each = inspected.folder, [(label, str(token)) for label in labels for token in range(1, 9)]
    assert [(row["label"], row["token"]) for row in rows(folder / "tokens.csv")] == each
    width = expected.shape[2]
    assert np.array_equal(numbers(folder / "tokens.csv", *(f"v{k}" for k in range(width))), expected.reshape(-1, width))
    assert np.array_equal(numbers(folder / "norms.csv", "norm").reshape(4, 8), space.norms)
    assert np.array_equal(numbers(folder / "cosine.csv", *labels), space.cosine)
    assert np.array_equal(numbers(folder / "euclidean.csv", *labels), space.euclidean)
    assert space.pca_labels is not None
    assert space.pca_tokens is not None
    components = ("component_1", "component_2")
    assert np.array_equal(numbers(folder / "pca_labels.csv", *components), space.pca_labels.points)
    assert np.array_equal(numbers(folder / "pca_tokens.csv", *components), space.pca_tokens.points)
    assert space.tsne is not None
    told = numbers(folder / "tsne.csv", "x", "y").reshape(6, 32, 2)
    assert np.array_equal(told, np.concatenate([space.tsne.runs, space.tsne.mean[None]]))


def test_sample_attention_matches_the_images_of_sample(inspected: Inspection, attending: Path) -> None:
    model = load(attending)
    seen = []
    found = sample_attention(model, CLASSES, count=2, seed=0, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 2 * len(CLASSES)) for done in range(0, 2 * len(CLASSES) + 1, 2)]
    assert found is not None
    assert found.labels == tuple(label for label in CLASSES for _ in range(2))
    np.testing.assert_allclose(found.maps.sum(axis=1), 1.0, atol=1e-5)
    told = numbers(inspected.folder / "attention.csv", "share").reshape(found.maps.shape)
    assert np.array_equal(told.astype(np.float32), found.maps)
    assert [int(row["seed"]) for row in rows(inspected.folder / "attention.csv")[:: found.maps[0].size]] == list(
        found.seeds
    )
    source = make_source(load_plugins(), device="cpu")
    job = prepare(str(attending), source, count=2)
    drawn = np.concatenate([job.sampler.sample(batch) for batch in job.plan.batches()])
    assert np.abs(drawn.astype(int) - found.images).max() <= 1  # another batch size rounds otherwise


def test_inspect_repeats_every_file_by_seed(attending: Path, inspected: Inspection, tmp_path: Path) -> None:
    again = look(attending, tmp_path / "again", n=2)
    other = look(attending, tmp_path / "other", n=2, seed=1)
    for name in inspected.files:
        same = (inspected.folder / name).read_bytes() == (again.folder / name).read_bytes()
        assert same, name
    changed = {
        name for name in inspected.files if (inspected.folder / name).read_bytes() != (other.folder / name).read_bytes()
    }
    assert changed == {"tsne.csv", "tsne.png", "attention.csv", "attention.png"}


def test_inspect_leaves_a_finished_folder_and_refuses_another_job(inspected: Inspection, attending: Path) -> None:
    before = {path: path.read_bytes() for path in inspected.folder.iterdir()}
    again = look(attending, inspected.folder, n=2)
    assert again.already_done
    assert again.files == inspected.files
    assert {path: path.read_bytes() for path in inspected.folder.iterdir()} == before
    with pytest.raises(DataError, match="holds another job: its n is 2, this one's is 1"):
        look(attending, inspected.folder)


def test_inspect_repairs_a_finished_folder(
    inspected: Inspection, attending: Path, tmp_path: Path, logged: list[str]
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(inspected.folder, folder)
    before = {name: (folder / name).read_bytes() for name in inspected.files}
    (folder / "norms.csv").write_bytes(before["norms.csv"][:-1])
    (folder / "pca.png").unlink()
    left = temporary_name(folder / "norms.csv")
    left.write_bytes(b"half")
    assert not look(attending, folder, n=2).already_done
    assert {name: (folder / name).read_bytes() for name in inspected.files} == before
    assert any("norms.csv, pca.png is missing or damaged: writing it again" in line for line in logged)
    assert not left.exists()
    assert look(attending, folder, n=2).already_done


def test_inspect_chosen_classes(attending: Path, tmp_path: Path) -> None:
    found = look(attending, tmp_path / "out", labels=("normal",))
    assert {row["label"] for row in rows(found.folder / "attention.csv")} == {"normal"}
    assert {row["label"] for row in rows(found.folder / "tokens.csv")} == {*CLASSES, NO_LABEL}
    with pytest.raises(UnknownName, match="unknown class 'norml'"):
        look(attending, tmp_path / "other", labels=("norml",))


@pytest.mark.parametrize("plugin", ["ddpm", "latent-ddpm", "dcgan"])
def test_inspect_single_vector_per_label_says_what_is_left_out(plugin: str, tmp_path: Path) -> None:
    found = look(make(tmp_path / "model", plugin), tmp_path / "out")
    assert set(found.files) == {f"{name}.csv" for name in ALL_TABLES} | {"pca.png", "distances.png", "norms.png"}
    told = " ".join(found.left_out)
    assert "PCA of tokens: each label is a single vector" in told
    assert "tokens, and 10 are needed" in told
    assert "attention maps: the network has no cross-attention to label tokens" in told
    with_null = plugin != "dcgan" and "no label" in {row["label"] for row in rows(found.folder / "norms.csv")}
    dropout = load(tmp_path / "model").config.flat().get("diffusion.label_dropout", 0.0)
    assert with_null == (dropout > 0)


def test_label_space_without_label_dropout_has_no_null_label(tmp_path: Path) -> None:
    model = load(make(tmp_path / "model", "ddpm-var", overrides=["diffusion.label_dropout=0.0"]))
    assert label_space(model, seed=0).labels == CLASSES


def test_inspect_multi_label(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", "ldm", multi_label=True, overrides=["diffusion.label_dropout=0.1"])
    model = load(folder)
    space = label_space(model, seed=0)
    embedding: Callable[..., torch.Tensor] = model.model.network.embedding  # type: ignore[attr-defined]
    with torch.inference_mode():
        hot = torch.cat([torch.eye(3), -torch.ones(1, 3)])
        assert np.array_equal(space.tokens, embedding(hot).numpy())
    found = look(folder, tmp_path / "out")
    assert {row["label"] for row in rows(found.folder / "attention.csv")} == set(CLASSES)


def test_inspect_one_class_has_no_pca(tmp_path: Path) -> None:
    model = make(tmp_path / "model", "ddpm-var", classes=("cyst",), overrides=["diffusion.label_dropout=0.0"])
    found = look(model, tmp_path / "out")
    assert "pca.png" not in found.files
    assert "PCA of labels: there are 1, and 3 are needed" in found.left_out
    assert numbers(found.folder / "cosine.csv", "cyst").item() == pytest.approx(1.0)


def test_inspect_refuses_models_without_label_tokens(tmp_path: Path, monkeypatch: Any) -> None:
    blind = make(tmp_path / "blind", "dcgan", classes=("cyst",), overrides=["network.conditional=false"])
    with pytest.raises(ConfigError, match="reads no label"):
        look(blind, tmp_path / "out")
    model = make(tmp_path / "model", "ddpm")
    monkeypatch.delattr("medzoo_ddpm.model.DDPM.label_tokens")
    with pytest.raises(ConfigError, match="'model' has no label tokens to inspect"):
        look(model, tmp_path / "out")
    with pytest.raises(ConfigError, match="'classic' has no weights"):
        look(Path("classic"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_principal_components_keep_distances_within_a_plane() -> None:
    flat = np.random.default_rng(0).normal(size=(6, 2)) * [5.0, 1.0]
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(9, 9)))
    plane = principal_components(np.pad(flat, ((0, 0), (0, 7))) @ turn + 3.0)
    assert plane is not None
    np.testing.assert_allclose(cdist(plane.points, plane.points), cdist(flat, flat), atol=1e-9)
    assert sum(plane.explained) == pytest.approx(1.0)
    assert plane.explained[0] > plane.explained[1]
    assert principal_components(flat[:2]) is None


def test_tsne_embedding_separates_groups_and_repeats_by_seed() -> None:
    middles = np.repeat(100.0 * np.eye(3, 8), 8, axis=0)
    points = (middles + np.random.default_rng(0).normal(size=(24, 8))).astype(np.float32)
    found, again = (tsne_embedding(points, seeds=[1, 2, 3]) for _ in range(2))
    assert found is not None
    assert again is not None
    assert np.array_equal(found.runs, again.runs)
    assert found.perplexity < 24
    assert not np.allclose(found.runs[0], found.runs[1], atol=1e-3)
    np.testing.assert_allclose((found.runs**2).sum(axis=(1, 2)), 1.0, atol=0.35)
    np.testing.assert_allclose(found.mean, found.runs.mean(axis=0))
    for own in (*found.runs, found.mean):
        groups = own.reshape(3, 8, 2)
        within = np.linalg.norm(groups - groups.mean(axis=1, keepdims=True), axis=2).max()
        centers = groups.mean(axis=1)
        assert cdist(centers, centers)[np.triu_indices(3, 1)].min() > 2 * within
    assert found.disparity < 0.3
    assert tsne_embedding(points[:9], seeds=[1]) is None
