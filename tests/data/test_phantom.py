"""Simulated ultrasound: repeatable, told apart by class, with the statistics of speckle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medzoo.data import phantom
from medzoo.data.dataset import open_dataset
from medzoo.data.images import write_image
from medzoo.data.phantom import CLASSES, DYNAMIC_RANGE, envelope, phantom_dataset, simulate, write_phantom
from medzoo.errors import ConfigError, DataError, ResourceError, UnknownName


def test_simulate_repeats_by_label_seed_and_size() -> None:
    for label in CLASSES:
        first = simulate(label, seed=3, size=64)
        assert first.dtype == np.uint8
        assert first.shape == (64, 64)
        np.testing.assert_array_equal(first, simulate(label, seed=3, size=64))
        assert not np.array_equal(first, simulate(label, seed=4, size=64))
    assert not np.array_equal(simulate("normal", seed=3), simulate("thick-wall", seed=3))


def test_simulate_classes_differ_at_the_same_seed() -> None:
    # The gland at the top looks alike in all classes, so that equal draws would show as correlation there.
    scans = {label: [simulate(label, seed=seed)[:30] for seed in range(12)] for label in ("normal", "narrow-canal")}
    rest = {label: np.stack(tops) - np.mean(tops, axis=0) for label, tops in scans.items()}
    pairs = zip(rest["normal"], rest["narrow-canal"], strict=True)
    assert abs(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs])) < 0.2


def test_simulate_size_changes_only_resolution() -> None:
    small, middle = simulate("normal", seed=5, size=32), simulate("normal", seed=5, size=128)
    shrunk = middle.reshape(32, 4, 32, 4).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), shrunk.ravel())[0, 1] > 0.98
    assert simulate("normal", seed=5, size=160).shape == (160, 160)


def test_simulate_b_mode_gray_levels() -> None:
    scans = np.stack([simulate(label, seed=seed) for label in CLASSES for seed in range(10)])
    assert (scans < 30).mean() > 0.2  # water and cistern return next to nothing
    assert 0.001 < (scans > 230).mean() < 0.1  # interfaces are bright, few pixels are saturated
    assert DYNAMIC_RANGE == 50


def speckle(side: int = 300) -> np.ndarray:
    return envelope(np.full((side, side), 4.0), rng=np.random.default_rng(0))


def test_envelope_speckle_is_rayleigh() -> None:
    from scipy.stats import kstest

    amplitude = speckle()
    assert np.square(amplitude).mean() == pytest.approx(4, rel=0.03)
    # Point signal-to-noise of fully developed speckle: sqrt(pi / (4 - pi)).
    assert amplitude.mean() / amplitude.std() == pytest.approx(1.913, rel=0.02)
    # Pixels farther apart than the blur are independent draws.
    sparse = amplitude[::10, ::10].ravel()
    assert kstest(sparse, "rayleigh", args=(0, np.sqrt(2))).pvalue > 0.01


def test_envelope_speckle_is_wider_across_the_beam() -> None:
    intensity = np.square(speckle())
    intensity -= intensity.mean()
    along = (intensity[2:] * intensity[:-2]).mean() / intensity.var()
    across = (intensity[:, 2:] * intensity[:, :-2]).mean() / intensity.var()
    # Intensity correlates as the squared autocorrelation of the blur: exp(-d^2 / (2 s^2)) for a Gaussian of width s.
    assert along == pytest.approx(np.exp(-(2**2) / (2 * 0.85**2)), abs=0.05)
    assert across == pytest.approx(np.exp(-(2**2) / (2 * 1.75**2)), abs=0.05)


def test_simulate_classes_differ_in_named_regions() -> None:
    mean = {label: np.mean([simulate(label, seed=seed) for seed in range(40)], axis=0) for label in CLASSES}
    cistern = np.s_[40:80, 54:74]
    above_tip = np.s_[80:92, 50:78]
    assert mean["echogenic-content"][cistern].mean() > mean["normal"][cistern].mean() + 50
    wall = np.s_[40:80, 36:52]
    assert mean["thick-wall"][wall].mean() > mean["normal"][wall].mean() + 10
    assert mean["narrow-canal"][above_tip].mean() > mean["normal"][above_tip].mean() + 30


def test_phantom_dataset_classes_are_learnable() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    def features(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        scans = phantom_dataset(dict.fromkeys(CLASSES, count), size=16, seed=seed)
        assert scans.array is not None
        return scans.array.reshape(len(scans), -1) / 255.0, scans.labels

    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(*features(0, 60))
    accuracy = model.score(*features(1, 30))
    assert 0.6 < accuracy < 0.99


def test_write_phantom_matches_phantom_dataset(tmp_path: Path) -> None:
    counts = {"thick-wall": 2, "normal": 5}
    write_phantom(tmp_path / "set", counts=counts, size=32, seed=7)
    written, kept = open_dataset(tmp_path / "set"), phantom_dataset(counts, size=32, seed=7)
    assert written.counts() == kept.counts() == counts
    assert written.names == kept.names
    assert written.names[0] == "normal/normal-00001.png"
    assert written.fingerprints() == kept.fingerprints()
    assert written.fingerprint() == kept.fingerprint()
    assert len(set(kept.fingerprints())) == 7
    other = phantom_dataset(counts, size=32, seed=8)
    assert not set(other.fingerprints()) & set(kept.fingerprints())


def test_write_phantom_interrupted_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    written = []

    def interrupted(path: Path, pixels: np.ndarray) -> None:
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        write_image(path, pixels)

    monkeypatch.setattr(phantom, "write_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path / "scans", counts={"normal": 4}, size=32, seed=0)
    assert list(tmp_path.iterdir()) == []
    write_phantom(tmp_path / "scans", counts={"normal": 4}, size=32, seed=0)
    assert len(list((tmp_path / "scans" / "normal").iterdir())) == 4


def test_write_phantom_fills_an_empty_folder(tmp_path: Path) -> None:
    before = tmp_path.stat().st_ino
    write_phantom(tmp_path, counts={"normal": 1}, size=32, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["normal"]
    assert tmp_path.stat().st_ino == before


def test_write_phantom_full_disk_names_requested_folder(tmp_path: Path, monkeypatch) -> None:
    def full(path: Path, pixels: np.ndarray) -> None:
        raise ResourceError(f"cannot write {path}: the disk is full", "free some space")

    monkeypatch.setattr(phantom, "write_image", full)
    with pytest.raises(ResourceError, match=r"scans/normal/normal-00001.png: the disk is full"):
        write_phantom(tmp_path / "scans", counts={"normal": 1}, size=32, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_simulate_invalid_arguments_raise(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean thick-wall"):
        simulate("thick-wal", seed=0)
    for seed, size in ((-1, 64), (0, 7)):
        with pytest.raises(ConfigError, match="size of at least 8 and a seed of at least 0"):
            simulate("normal", seed=seed, size=size)
    for counts in ({}, {"normal": 0}):
        with pytest.raises(ConfigError, match="at least one"):
            phantom_dataset(counts, size=32, seed=0)
    (tmp_path / "kept.txt").touch()
    with pytest.raises(DataError, match="holds other files"):
        write_phantom(tmp_path, counts={"normal": 1}, size=32, seed=0)
