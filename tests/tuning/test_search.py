"""The search: the same trials wherever it was killed, and no policy twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.tuning_space import space_of

from medzoo.errors import ResourceError
from medzoo.tuning import search as searching
from medzoo.tuning.results import TrialResult
from medzoo.tuning.search import Scored, search
from medzoo.tuning.space import Space


class Killed(BaseException):
    """As a process that ends in the middle."""


def score(policies: Sequence[Mapping[str, Any]]) -> list[Scored]:
    """Pool b and a weak weight are best."""
    return [
        Scored(score=(params["pool"] == "b") - abs(params["loss_weight"] - 0.3) + params["target"] / 100, sd=0.1)
        for params in policies
    ]


def found(
    space: Space,
    journal: Path,
    *,
    score: Callable[..., Sequence[Scored]] = score,
    stop: Callable[[int], bool] = lambda number: False,
) -> list[TrialResult]:
    return search(space, score, journal, stop=stop, on_trial=lambda trial: None)


def test_search_begins_with_a_plain_policy_of_each_pool(tmp_path):
    space = space_of(trials=14)
    trials = found(space, tmp_path / "search.journal")
    assert [trial.number for trial in trials] == list(range(14))
    assert [trial.params for trial in trials[:2]] == [space.plain("a"), space.plain("b")]
    assert len({trial.arm["name"] for trial in trials}) == 14
    assert max(trials, key=lambda trial: trial.score).params["pool"] == "b"
    again = found(space, tmp_path / "search.journal", score=lambda policies: pytest.fail("scored again"))
    assert again == trials


@pytest.mark.parametrize("calls", [1, 3, 6])
def test_search_killed_goes_on_to_the_same_trials(tmp_path, monkeypatch, calls):
    space = space_of(trials=16, batch=4)
    whole = found(space, tmp_path / "whole.journal")
    tell, told = searching._tell, []

    def dying(*given: Any, **named: Any) -> None:
        told.append(1)
        if len(told) == calls:
            raise Killed
        tell(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(searching, "_tell", dying)
        with pytest.raises(Killed):
            found(space, tmp_path / "search.journal")
    (tmp_path / "search.journal.lock").symlink_to(tmp_path / "search.journal")  # as a process leaves it
    assert found(space, tmp_path / "search.journal") == whole


def test_search_journal_that_is_damaged(tmp_path, logged):
    space = space_of(trials=8)
    whole = found(space, tmp_path / "search.journal")
    journal = tmp_path / "search.journal"
    journal.write_bytes(b"no journal\n" + journal.read_bytes())
    assert found(space, journal) == whole
    assert any("search.journal is damaged" in line for line in logged)


def test_search_ends_where_it_is_stopped_or_all_is_tried(tmp_path):
    space = space_of(trials=200, target=(1.0,), loss_weight=(1.0, 0.3), replace=(0.0,), select=("none",),
                     weighted=(False,))  # fmt: skip
    assert len(found(space, tmp_path / "a.journal", stop=lambda number: number >= 4)) == 4
    every = found(space, tmp_path / "b.journal")
    assert len(every) == len(list(space.all())) == 8


def test_search_policies_that_fail(tmp_path, logged):
    space = space_of(trials=8)

    def failing(policies: Sequence[Mapping[str, Any]]) -> list[Scored]:
        return [Scored(error="too few images") if params["pool"] == "a" else Scored(score=0.5) for params in policies]

    trials = found(space, tmp_path / "search.journal", score=failing)
    assert {trial.params["pool"] for trial in trials} == {"b"}
    assert any("policy 0 (a to 100%) failed: too few images" in line for line in logged)
    with pytest.raises(ResourceError, match="no policy could be scored: the disk is full"):
        found(space, tmp_path / "b.journal", score=lambda policies: [Scored(error="the disk is full")] * len(policies))
