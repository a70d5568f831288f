"""Arms of ready-made synthetic images, and external test sets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medzoo.data.dataset import Dataset, open_dataset
from medzoo.data.metadata import read_metadata
from medzoo.data.phantom import phantom_dataset, write_phantom
from medzoo.errors import ConfigError, DataError
from medzoo.experiment.config import parse_arms, read_design
from medzoo.experiment.plan import ExperimentPlan, plan_experiment
from medzoo.experiment.results import Experiment, check_cell, load_results
from medzoo.experiment.run import run
from medzoo.generation.mixture import make_source
from medzoo.plugins.lookup import load_plugins
from medzoo.runs.progress import no_progress

COUNTS = {"normal": 10, "thick-wall": 6, "narrow-canal": 6}
TINY = ["classifiers = ['cnn']", "target = 8", "folds = 2", "epochs = 1", "preset = 'tiny'"]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return phantom_dataset(COUNTS, size=16, seed=1)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of synthetic images, with nothing that says so."""
    folder = tmp_path_factory.mktemp("ready") / "gan"
    for index, name in enumerate(COUNTS):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng([index, number]).integers(0, 256, (24, 24), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"made-{number}.png")
    return folder


def plan(
    folder: Path, data: Dataset, lines: Sequence[str], *, tests: Sequence[Dataset] = (), **options: bool
) -> ExperimentPlan:
    (folder / "design.toml").write_text("\n".join([*TINY, *lines]))
    source = make_source(load_plugins(), device="cpu")
    design = read_design(str(folder / "design.toml"))
    return plan_experiment(design, data, folder / "x", source=source, tests=tests, **options)


def complete(planned: ExperimentPlan) -> Experiment:
    result = run(planned, jobs=1, progress=no_progress)
    assert [cell.error for cell in result.failed] == []
    return result


def arms(*texts: str) -> list[str]:
    return [f"arms = {json.dumps(texts)}", "controls = false"]


def test_parse_arms_with_folders(ready):
    (ready / "a=b+c").mkdir(exist_ok=True)
    texts = [f"folder:{ready}", f"folder:{ready}=0.5+duplicate=0.5", f"folder:{ready}/a=b+c"]
    alone, mixed, signs = parse_arms(texts, targets=[8], controls=False)
    (ready / "a=b+c").rmdir()
    assert dict(signs.mixture) == {f"folder:{ready}/a=b+c": 1.0}
    assert dict(alone.mixture) == {f"folder:{ready}": 1.0}
    assert dict(mixed.mixture) == {f"folder:{ready}": 0.5, "duplicate": 0.5}
    assert not alone.control


def test_run_folder_arm_and_mixture(ready, data, tmp_path):
    name = f"folder:{ready}"
    planned = plan(tmp_path, data, arms("real", name, f"{name}=0.5+duplicate=0.5"))
    assert {task.generator for task in planned.samplings} == {"duplicate"}
    assert any("lineage of 'folder:" in warning for warning in planned.warnings)
    result = complete(planned)
    for cell in result.of(name, "cnn"):
        assert {label: cell.images["real"][label] + cell.images[name][label] for label in COUNTS} == dict.fromkeys(
            COUNTS, 8
        )
        assert cell.notes[f"lineage of {name}"] == {"made by": "unknown"}
    facts = load_results(tmp_path / "x").provenance["generators"][name]
    assert (facts["kind"], facts["lineage"], facts["counts"]) == ("folder", "unknown", dict.fromkeys(sorted(COUNTS), 6))
    keys = {cell.key for cell in planned.cells if cell.arm.name == name}
    assert keys == {cell.key for cell in plan(tmp_path, data, arms("real", name)).cells if cell.arm.name == name}


def test_plan_experiment_folder_keys_depend_on_its_images(ready, data, tmp_path):
    other = tmp_path / "gan"
    shutil.copytree(ready, other)
    lines = ["baseline = 'folder'", "controls = false", f"arms = [{{images = 'folder:{other}', name = 'folder'}}]"]
    before = {cell.key for cell in plan(tmp_path, data, lines).cells}
    assert before == {cell.key for cell in plan(tmp_path, data, lines).cells}
    Image.new("L", (24, 24), 9).save(other / "normal" / "made-0.png")
    assert before.isdisjoint(cell.key for cell in plan(tmp_path, data, lines).cells)


def test_plan_experiment_folder_with_held_out_images(ready, data, tmp_path):
    shutil.copytree(ready, tmp_path / "gan")
    slightly = np.asarray(data.pixels(0)).astype(np.int64)
    slightly[0, 0] += 3 if slightly[0, 0] < 200 else -3
    Image.fromarray(slightly.astype(np.uint8)).save(tmp_path / "gan" / data.classes[data.labels[0]] / "copy.png")
    lines = arms("real", f"folder:{tmp_path / 'gan'}")
    with pytest.raises(DataError, match=r"holds 1 of the \d+ (test|validation) images of fold \d, such as .*copy.png"):
        plan(tmp_path, data, lines)
    allowed = plan(tmp_path, data, lines, allow_leak=True)
    assert any("holds, or was made from, 1 test images (--allow-leak)" in warning for warning in allowed.warnings)


def test_plan_experiment_folder_that_cannot_be(ready, data, tmp_path):
    with pytest.raises(DataError, match=r"has 6 images of narrow-canal, and 18 are needed"):
        plan(tmp_path, data, [f"arms = ['real', {{images = 'folder:{ready}', target = 20}}]", "controls = false"])
    with pytest.raises(DataError, match="is inside the data folder"):
        plan(ready, data, arms("real", f"folder:{ready}"))
    (ready / "design.toml").unlink()
    with pytest.raises(DataError, match="nowhere does not exist"):
        plan(tmp_path, data, arms("real", "folder:nowhere"))
    with pytest.raises(ConfigError, match="a folder of images has no settings"):
        plan(tmp_path, data, [*arms("real", f"folder:{ready}"), f"[generator.'folder:{ready}']", "preset = 'tiny'"])
    (tmp_path / "other" / "cyst").mkdir(parents=True)
    Image.new("L", (24, 24), 9).save(tmp_path / "other" / "cyst" / "0.png")
    with pytest.raises(DataError, match=r"has different classes than .*: cyst"):
        plan(tmp_path, data, arms("real", f"folder:{tmp_path / 'other'}"))


def test_run_folder_of_medzoo_takes_its_synthetic_images(data, tmp_path, medzoo):
    write_phantom(tmp_path / "real", counts=COUNTS, size=16, seed=9)
    made = medzoo("augment", "--gen", "classic", "--data", tmp_path / "real", "--to", 16, "--out", tmp_path / "made")
    assert made.code == 0, made.err
    planned = plan(tmp_path, data, arms("real", f"folder:{tmp_path / 'made'}"))
    (folder,) = planned.worker.folders.values()
    assert len(folder.data) == 3 * 16 - sum(COUNTS.values())
    assert set(folder.origins) == {"classic"}
    assert folder.lineage == "classic (unknown training images)"
    assert not any("lineage of" in warning for warning in planned.warnings)


def test_run_folder_of_variations_leaves_out_those_of_held_out_images(tmp_path, medzoo):
    write_phantom(tmp_path / "real", counts=COUNTS, size=16, seed=9)
    made = medzoo("augment", "--gen", "duplicate", "--data", tmp_path / "real", "--to", 30, "--out", tmp_path / "made",
                  "--originals", "omit")  # fmt: skip
    assert made.code == 0, made.err
    name, real = f"folder:{tmp_path / 'made'}", open_dataset(tmp_path / "real")
    planned = plan(tmp_path, real, arms("real", name))  # the duplicates of test images are no leak: none is used
    (folder,) = planned.worker.folders.values()
    rows = read_metadata(tmp_path / "made")
    names = planned.worker.images.data.names
    for cell in (cell for cell in planned.cells if cell.arm.name == name):
        drawn, taken = planned.worker.synthetic(cell.samplings[name], cell.synthetic[name])
        held = {names[index] for index in (*cell.fold.val, *cell.fold.test)}
        assert len(taken) == sum(cell.synthetic[name].values()) > 0
        assert {rows[drawn.names[index]]["source_image"] for index in taken}.isdisjoint(held)
        assert not folder.usable(cell.fold).all()
    first, second = planned.worker.images.folds
    assert folder.left_out(first) != folder.left_out(second)
    many = [f"arms = ['real', {{images = '{name}', target = 40}}]", "controls = false"]
    with pytest.raises(
        DataError, match=r"for fold 1 \(not counting \d+ that vary images outside its training part\), "
    ):
        plan(tmp_path, real, many)
    other = phantom_dataset(COUNTS, size=16, seed=1)  # the same names, but other images
    (apart,) = plan(tmp_path, other, arms("real", name)).worker.folders.values()
    assert not any(apart.sources)


@pytest.fixture(scope="module")
def elsewhere() -> Dataset:
    """Images of another hospital, with its classes in another order."""
    found = phantom_dataset({"thick-wall": 5, "normal": 7, "narrow-canal": 4}, size=20, seed=77)
    return replace(found, path=Path("elsewhere.npz"))


def test_run_external_test_sets(data, elsewhere, tmp_path):
    again = replace(elsewhere, path=Path("other/elsewhere.npz"))
    result = complete(plan(tmp_path, data, arms("real", "duplicate"), tests=[elsewhere, again]))
    assert result.test_sets == ("elsewhere", "elsewhere-2")
    view = result.on("elsewhere")
    assert {cell.n_test for cell in view.cells} == {16}
    assert view.summary("real", "cnn").estimates["accuracy"].n == 2
    assert [found.baseline for found in view.comparisons] == ["real"]
    for cell in result.cells:
        assert cell.external["elsewhere"].n == 16
        assert set(cell.external["elsewhere"].classes) == set(COUNTS)
    for cell in view.cells:
        table = view.read_predictions(cell)
        assert (table["label"] == table["predicted"]).mean() == pytest.approx(cell.scores.accuracy)
    json.dumps(result.to_dict(), allow_nan=False)
    assert set(result.to_dict()["external"]) == {"elsewhere", "elsewhere-2"}
    assert load_results(tmp_path / "x").to_dict() == result.to_dict()
    assert view.cells[0].n_test == len(view.read_predictions(view.cells[0])) == 16
    view.predictions(result.cells[0]).unlink()
    assert check_cell(tmp_path / "x", result.cells[0].key) == (
        False,
        f"{view.predictions(result.cells[0])} is missing or damaged",
    )


def test_make_folds_external_test_sets_that_leak(data, elsewhere, tmp_path):
    leaky = replace(data.subset([0, 1, 8]), path=Path("leaky.npz"))
    with pytest.raises(DataError, match=r"3 of the 3 images of leaky\.npz are also training or validation images"):
        plan(tmp_path, data, arms("real"), tests=[leaky])
    allowed = plan(tmp_path, data, arms("real"), tests=[leaky], allow_leak=True)
    assert any("leaky.npz" in warning and "too optimistic" in warning for warning in allowed.warnings)
    other = replace(elsewhere, classes=("a", "b", "c"))
    with pytest.raises(DataError, match="has different classes"):
        plan(tmp_path, data, arms("real"), tests=[other])


def test_make_folds_first_test_set_is_the_test_part(data, elsewhere, tmp_path):
    planned = plan(tmp_path, data, arms("real"), tests=[elsewhere])
    assert list(planned.worker.images.external) == ["elsewhere"]
    (tmp_path / "h").mkdir()
    text = "\n".join([*TINY, *arms("real")]).replace("folds = 2", "folds = 0")
    (tmp_path / "h" / "design.toml").write_text(text)
    source = make_source(load_plugins(), device="cpu")
    third = replace(phantom_dataset(COUNTS, size=16, seed=5), path=Path("third.npz"))
    design = read_design(str(tmp_path / "h" / "design.toml"))
    with pytest.raises(DataError, match=r"has images of 20x20 pixels, and .* of 16x16"):
        plan_experiment(design, data, None, source=source, tests=[elsewhere])
    small = replace(phantom_dataset({"normal": 8, "thick-wall": 8}, size=16, seed=6), path=Path("small.npz"))
    held = plan_experiment(design, data, None, source=source, tests=[small, third])
    (fold,) = held.worker.images.folds
    assert (len(fold.test), list(held.worker.images.external)) == (16, ["third"])
