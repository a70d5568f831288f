"""The selection of synthetic images: each criterion finds what was planted, and the same call selects the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medzoo.errors import ConfigError, DataError, UnknownName
from medzoo.generation.selection import (
    NEAR_COPY,
    RANKED_LOWER,
    PoolFeatures,
    RealFeatures,
    check_criteria,
    pool_counts,
    select,
)

CLASSES = ("benign", "malignant")
D = 8
MEANS = np.eye(2, D) * 4


def drawn(labels: list[int], *, seed: int, spread: float = 1.0) -> np.ndarray:
    return (MEANS[labels] + np.random.default_rng(seed).normal(0, spread, (len(labels), D))).astype(np.float32)


@pytest.fixture(scope="module")
def real() -> RealFeatures:
    """60 and 30 real images around two means; mirror images lie elsewhere."""
    labels = [0] * 60 + [1] * 30
    return RealFeatures(
        classes=CLASSES,
        features=drawn(labels, seed=0),
        mirrored=drawn(labels, seed=1),
        labels=np.array(labels),
        groups=np.arange(90),
    )


def pool_of(features: np.ndarray, labels: list[int], sources: list[int] | None = None) -> PoolFeatures:
    chosen = sources if sources is not None else [-1] * len(labels)
    return PoolFeatures(features=features, labels=np.array(labels), sources=np.array(chosen, np.int64))


def test_agreement_drops_images_of_another_class(real):
    labels, looks_like = [0] * 10 + [1] * 10, [0] * 7 + [1] * 3 + [1] * 7 + [0] * 3
    found = select(
        pool_of(drawn(looks_like, seed=2), labels),
        real,
        criteria=["agreement"],
        keep={"benign": 7, "malignant": 7},
        seed=0,
    )
    assert found.kept.tolist() == [*range(7), *range(10, 17)]
    assert found.summary()["benign"] == {"pool": 10, "kept": 7, "ranked_lower": 3, "agreed": 7, "kept_agreed": 7}
    assert {found.reasons[index] for index in (7, 8, 9, 17, 18, 19)} == {RANKED_LOWER}


def test_agreement_reads_a_variation_by_classifiers_without_its_source(real):
    """A mislabeled source, repeated, would be confirmed by a classifier that learned its label by heart."""
    features, labels = real.features.copy(), real.labels.copy()
    features[59] = MEANS[1] * 3  # benign by its label alone, and far from everything else
    learned = replace(real, features=features)
    copies = np.repeat(features[59:60], 2, axis=0)
    found = select(
        pool_of(copies, [0, 0], [59, -1]), learned, criteria=["agreement"], keep={"benign": 1}, seed=0
    ).values["probability"]
    assert found[0] < found[1]
    assert labels[59] == 0


def test_agreement_keeps_groups_together(real):
    """Images of the source's patient count as the source."""
    features = real.features.copy()
    features[55:60] = MEANS[1] * 3
    grouped = real.groups.copy()
    grouped[55:60] = 55
    pool = pool_of(features[59:60], [0], [59])
    given = {"criteria": ["agreement"], "keep": {"benign": 1}, "seed": 0}
    alone = select(pool, replace(real, features=features), **given).values["probability"][0]
    together = select(pool, replace(real, features=features, groups=grouped), **given).values["probability"][0]
    assert together < alone


def test_distance_drops_outliers(real):
    features = drawn([0] * 6, seed=3)
    features[[1, 4]] += 30
    found = select(pool_of(features, [0] * 6), real, criteria=["distance"], keep={"benign": 4}, seed=0)
    assert found.kept.tolist() == [0, 2, 3, 5]
    assert found.best_rejected(0, 5) in ([1, 4], [4, 1])


def test_distance_does_not_count_the_own_source(real):
    """Image 59 is far from its class: so is its variation, however near to it."""
    features = real.features.copy()
    features[59] += 30
    pool = pool_of(np.stack([features[59], features[0]]), [0, 0], [59, 0])
    found = select(pool, replace(real, features=features), criteria=["distance"], keep={"benign": 1}, seed=0)
    assert found.kept.tolist() == [1]
    assert found.values["source"].tolist() == [0, 0]
    assert found.summary()["benign"]["source_distance"] == 0


def test_novelty_drops_copies_and_mirrored_copies(real):
    features = drawn([0] * 5, seed=4)
    features[1] = real.features[70] + 1e-4  # of another class
    features[3] = real.mirrored[2] + 1e-4
    found = select(pool_of(features, [0] * 5), real, criteria=["novelty"], keep={"benign": 2}, seed=0)
    assert found.reasons == ("", NEAR_COPY, "", NEAR_COPY, RANKED_LOWER)
    assert found.best_rejected(0, 5)[0] == 4
    assert found.threshold is not None
    assert (found.values["nearest"][[1, 3]] <= found.threshold).all()


def test_novelty_lets_a_variation_be_near_its_own_source(real):
    pool = pool_of(real.features[[3, 4, 5]] + 1e-4, [0] * 3, [3, 4, 8])
    found = select(pool, real, criteria=["novelty"], keep={"benign": 2}, seed=0)
    assert found.reasons == ("", "", NEAR_COPY)


def test_criteria_combine(real):
    """A copy is dropped although it is the best by rank; then ranks are summed."""
    features = drawn([0, 0, 0, 1], seed=5)
    features[0] = real.features[0]
    found = select(
        pool_of(features, [0] * 4), real, criteria=["agreement", "distance", "novelty"], keep={"benign": 2}, seed=0
    )
    assert found.reasons[0] == NEAR_COPY
    assert found.kept.tolist() == [1, 2]


def test_random_is_a_share_at_random_of_each_class(real):
    labels = [0] * 30 + [1] * 20
    pool = pool_of(drawn(labels, seed=6), labels)
    given = {"criteria": ["random"], "keep": {"benign": 15, "malignant": 5}}
    found = select(pool, real, **given, seed=0)
    assert np.bincount(pool.labels[found.kept]).tolist() == [15, 5]
    assert found.kept.tolist() == select(pool, real, **given, seed=0).kept.tolist()
    assert found.kept.tolist() != select(pool, real, **given, seed=1).kept.tolist()
    assert found.kept.tolist() != list(range(15)) + list(range(30, 35))


@pytest.mark.parametrize("criteria", [["agreement"], ["distance"], ["novelty"], ["agreement", "novelty"]])
def test_select_is_deterministic(real, criteria):
    labels = [0, 1] * 20
    pool = pool_of(drawn(labels, seed=7, spread=3), labels)
    given = {"criteria": criteria, "keep": {"benign": 10, "malignant": 10}, "seed": 3}
    first, again = select(pool, real, **given), select(pool, real, **given)
    assert first.kept.tolist() == again.kept.tolist()
    assert (np.diff(first.kept) > 0).all()


def test_select_too_few_images_pass(real):
    features = drawn([0] * 6, seed=8)
    features[:4] = real.features[:4]
    with pytest.raises(DataError) as caught:
        select(pool_of(features, [0] * 6), real, criteria=["novelty"], keep={"benign": 3}, seed=0)
    assert caught.value.message == "too few images pass novelty: 2 of 6 of class 'benign' (to keep: benign 3)"
    assert "a larger pool, such as --pool 3.3, which continues this one" in caught.value.hint


def test_select_no_image_passes(real):
    pool = pool_of(real.features[:3], [0] * 3)
    with pytest.raises(DataError, match="0 of 3") as caught:
        select(pool, real, criteria=["novelty"], keep={"benign": 1}, seed=0)
    assert "such as" not in caught.value.hint


@pytest.mark.parametrize("criterion", ["agreement", "distance"])
def test_select_class_of_one_real_image(real, criterion):
    few = replace(real, labels=np.array([0] * 89 + [1]))
    with pytest.raises(DataError, match=f"'malignant' has 1 real image, too few to select by {criterion}"):
        select(pool_of(drawn([1], seed=9), [1]), few, criteria=[criterion], keep={"malignant": 1}, seed=0)


def test_select_features_that_are_not_finite(real):
    features = drawn([0, 0], seed=9)
    features[1, 2] = np.nan
    with pytest.raises(DataError, match="the features of 1 synthetic images are not finite"):
        select(pool_of(features, [0, 0]), real, criteria=["distance"], keep={"benign": 1}, seed=0)


def test_check_criteria():
    assert check_criteria(["novelty", "agreement", "novelty"]) == ("novelty", "agreement")
    with pytest.raises(UnknownName, match="agreement"):
        check_criteria(["agrement"])
    with pytest.raises(ConfigError, match="--select random is the control for agreement"):
        check_criteria(["random", "agreement"])


def test_pool_counts_round_up():
    assert pool_counts({"benign": 10, "malignant": 3, "normal": 0}, 1.1) == {
        "benign": 11,
        "malignant": 4,
        "normal": 0,
    }
    for factor in (1, 0.5, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="leaves nothing to select from"):
            pool_counts({"benign": 1}, factor)
