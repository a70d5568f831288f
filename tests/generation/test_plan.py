"""Plans: exact counts, batches that shards share out, seeds and sources that hang on nothing else."""

from __future__ import annotations

import re
from fractions import Fraction

import pytest

from medzoo.errors import ConfigError, DataError
from medzoo.generation.plan import PlannedImage, distinct, file_safe, make_plan, parse_shard
from medzoo.models.labels import check_labels

HALVES = (Fraction(4, 5), Fraction(1, 5))


def plan(real=None, *, target=100, names=("a", "b"), shares=HALVES, batch_size=7, seed=0):
    real = {"x": 63, "y": 0, "z": 120} if real is None else real
    wanted = {label: max(0, target - count) for label, count in real.items()}
    return make_plan(wanted, names=names, shares=shares, batch_size=batch_size, seed=seed)


def test_make_plan_counts():
    made = plan()
    assert [made.count(label) for label in "xyz"] == [37, 100, 0]
    by_generator = {(cell.generator, cell.label): cell.count for cell in made.cells}
    assert by_generator == {(0, "x"): 30, (1, "x"): 7, (0, "y"): 80, (1, "y"): 20}
    assert made.total == 137 == len(set(made.images()))


def test_batches_have_one_generator():
    batches = list(plan().batches())
    assert [picture for batch in batches for picture in batch] == list(plan().images())
    assert all(len({picture.generator for picture in batch}) == 1 for batch in batches)
    assert [len(batch) for batch in batches] == [7] * 15 + [5] + [7] * 3 + [6]


@pytest.mark.parametrize("shards", [1, 2, 3, 50])
def test_batches_of_shards(shards):
    whole = list(plan().batches())
    parts = [list(plan().batches((which, shards))) for which in range(1, shards + 1)]
    assert sorted((batch for part in parts for batch in part), key=whole.index) == whole
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_seed_of_depends_on_image_and_seed():
    fewer, more = plan(target=90), plan(target=200, batch_size=3)
    seeds = {picture.file: fewer.seed_of(picture) for picture in fewer.images()}
    assert seeds.items() <= {picture.file: more.seed_of(picture) for picture in more.images()}.items()
    assert len(set(seeds.values())) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds.values())
    first = next(fewer.images())
    assert plan(seed=1).seed_of(first) != fewer.seed_of(first)


def test_source_of_uses_each_once():
    made = plan()

    def turn(name, number):
        pictures = [PlannedImage(generator=0, generator_name=name, label="x", index=5 * number + i) for i in range(5)]
        return [made.source_of(picture, 5) for picture in pictures]

    turns = [turn("a", number) for number in range(6)]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in turns)
    assert len(set(map(tuple, turns))) > 1
    assert turns == [turn("a", number) for number in range(6)] != [turn("b", number) for number in range(6)]


def test_spread_over_generators():
    shown = plan().spread("x", 8)
    assert len(shown) == 8
    assert {picture.generator for picture in shown} == {0, 1}
    assert len(plan().spread("x", 1000)) == 37
    assert plan().spread("z", 8) == []


def test_distinct_ignores_case():
    assert distinct(["a.png", "A.png", "a.png", "b.png", "a-2.png"]) == [
        "a.png",
        "A-2.png",
        "a-3.png",
        "b.png",
        "a-2-2.png",
    ]


# The patterns by which Hugging Face's `datasets` (5.2) takes a file for a split's; it then leaves all others out.
SPLIT = re.compile(r"(^|.*[-._ 0-9])(train|training|validation|valid|dev|val|test|testing|eval|evaluation)[-._ 0-9].*")


@pytest.mark.parametrize(
    "name",
    ["train_001.png", "a-test.png", "val1.png", "x 2 dev 3.png", "p1.training.png", "test-train.png", "1val.png"],
)
def test_distinct_avoids_split_names(name):
    assert SPLIT.fullmatch(name)
    assert not SPLIT.fullmatch(distinct([name])[0])
    assert distinct([name])[0].casefold() == name


def test_distinct_keeps_other_names():
    names = ["latest.png", "retrain_1.png", "Größe (1).JPG", "valve.png"]
    assert distinct(names) == names


def test_file_safe():
    assert file_safe("runs/busi var") == "runs-busi-var"
    assert file_safe("..") == "model"


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "a/b", "1/2/3", "-1/2"])
def test_parse_shard_invalid(text):
    with pytest.raises(ConfigError, match="--shard"):
        parse_shard(text)


def test_parse_shard():
    assert parse_shard("2/3") == (2, 3)


@pytest.mark.parametrize("label", ["", "..", ".hidden", "a/b", "a\\b", "a|b", "a\nb"])
def test_check_labels_invalid(label):
    with pytest.raises(DataError, match="cannot be a folder"):
        check_labels(["fine", label])


def test_names_fit_on_a_disk():
    longest = "胸" * 83 + ".png"
    made = distinct([longest, longest, longest])
    assert made[0] == longest
    assert len(set(made)) == 3
    assert all(name.endswith(".png") and len(name.encode()) <= 255 for name in made)
    assert len(file_safe("a" * 255)) == 150
    assert file_safe(f"../{'a' * 20}/\x1b") == "a" * 20
