from fractions import Fraction

import pytest

from medzoo.errors import ConfigError
from medzoo.generation.shares import exact_shares, parse_mixture


def test_one_generator_has_the_whole_share():
    assert parse_mixture(["ddpm"]) == [("ddpm", Fraction(1))]
    assert parse_mixture(["ddpm=1"]) == [("ddpm", Fraction(1))]


def test_shares_are_exact():
    assert parse_mixture(["a=0.8", "b=0.2"]) == [("a", Fraction(4, 5)), ("b", Fraction(1, 5))]
    thirds = parse_mixture(["a=0.3333333", "b=0.3333333", "c=1/3"])
    assert sum(share for _, share in thirds) == 1


def test_a_folder_may_hold_an_equals_sign(tmp_path):
    folder = tmp_path / "lr=0.1"
    folder.mkdir()
    assert parse_mixture([str(folder)]) == [(str(folder), Fraction(1))]
    assert parse_mixture([f"{folder}=0.5", "b=0.5"])[0] == (str(folder), Fraction(1, 2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no generator"),
        (["a", "b"], "'a' has none"),
        (["a=0.5", "b"], "'b' has none"),
        (["a=0.5", "a=0.5"], "'a' is given twice"),
        (["a=0.5", "b=0.4"], "sum to 0.9"),
        (["a=1.5", "b=-0.5"], "more than 0"),
        (["a=1", "b=0"], "more than 0"),
        (["a=0.8", "b=x"], "must be a number"),
        (["a=nan", "b=1"], "must be a number"),
        (["a=1/0", "b=1"], "must be a number"),
    ],
)
def test_a_wrong_mixture_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        parse_mixture(given)


@pytest.mark.parametrize(
    ("total", "shares", "counts"),
    [
        (10, ["4/5", "1/5"], [8, 2]),
        (7, ["1/2", "1/2"], [4, 3]),
        (10, ["1/3", "1/3", "1/3"], [4, 3, 3]),
        (0, ["1/2", "1/2"], [0, 0]),
        (1, ["1/10", "9/10"], [0, 1]),
    ],
)
def test_integer_shares_sum_to_the_total(total, shares, counts):
    assert exact_shares(total, [Fraction(share) for share in shares]) == counts
