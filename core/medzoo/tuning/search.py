"""Search the space of policies with Optuna; the journal in the folder lets a killed search go on to the same end."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medzoo.errors import ResourceError
from medzoo.seeds import derive_seed
from medzoo.storage.files import disk_errors, temporary_beside
from medzoo.tuning.results import TrialResult
from medzoo.tuning.space import Space, table_of

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

_STUDY = "medzoo"
_PLACE, _ERROR = "place", "error"  # attributes of a trial beside those of TrialResult
# How often Optuna is asked for a policy that was not scored yet, before one is drawn at random.
_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What came of a policy in the inner folds: its `score` and `sd`, or an `error`; `seconds` it took."""

    score: float = 0.0
    sd: float = 0.0
    seconds: float = 0.0
    error: str = ""


Score = Callable[[Sequence[Mapping[str, Any]]], Sequence[Scored]]
"""Score policies, given by their parameters, in order."""


def search(
    space: Space,
    score: Score,
    journal: Path,
    *,
    stop: Callable[[int], bool],
    on_trial: Callable[[TrialResult], None],
) -> list[TrialResult]:
    """Propose policies in batches of constant size and score them, until all are scored or `stop` says so.

    The first are one plain policy of each pool. Proposals are made by a tree-structured Parzen estimator (Bergstra et
    al. 2011), seeded from the trial's number; a policy is never scored twice. With the same space, seed and scores, the
    trials are the same, wherever the search was killed: what is kept of it are whole batches. `stop` is called with the
    number of trials before each batch, `on_trial` with every trial, those of earlier runs first.

    Raises:
        ResourceError: every policy of a batch failed; the disk is full.
    """
    settings = space.settings
    every = list(space.all())
    total = min(settings.trials, len(every))
    first = [space.plain(pool) for pool in space.pools][:total]
    with _quiet_optuna(), disk_errors(journal):
        study = _open(journal, whole=settings.batch, total=total, seed=settings.seed)
        done = _placed(study)
        tried = {_key(space.normal(trial.params)) for trial in done}
        found = [_result(trial, space) for trial in done if _ERROR not in trial.user_attrs]
        for result in found:
            on_trial(result)
        place = len(done)
        while place < total and not stop(place):
            asked: list[tuple[optuna.Trial, dict[str, Any]]] = []
            for number in range(place, min(place + settings.batch, total)):
                given = first[number] if number < len(first) else None
                trial, params = _propose(study, space, tried, every, number=number, given=given)
                tried.add(_key(params))
                asked.append((trial, params))
            scores = score([params for _, params in asked])
            if all(one.error for one in scores):
                raise ResourceError(f"no policy could be scored: {scores[0].error}", "run the same command again")
            for number, ((trial, params), one) in enumerate(zip(asked, scores, strict=True), start=place):
                _tell(study, trial, one, place=number, space=space, params=params)
                if one.error:
                    logger.warning(f"policy {number} ({space.arm(params).name}) failed: {one.error}")
                    continue
                result = TrialResult(
                    number=number,
                    params=params,
                    arm=table_of(space.arm(params)),
                    score=one.score,
                    sd=one.sd,
                    seconds=round(one.seconds, 3),
                )
                found.append(result)
                on_trial(result)
            place += len(asked)
    return found


def _propose(
    study: optuna.Study,
    space: Space,
    tried: set[str],
    every: Sequence[Mapping[str, Any]],
    *,
    number: int,
    given: Mapping[str, Any] | None,
) -> tuple[optuna.Trial, dict[str, Any]]:
    """Return a trial and its policy in normal form: the one `given`, or one that was not tried yet."""
    import optuna

    for attempt in range(_ATTEMPTS if given is None else 0):
        study.sampler = _sampler(derive_seed(space.settings.seed, "trial", number, attempt))
        trial = study.ask()
        params = space.normal({key: trial.suggest_categorical(key, own) for key, own in space.choices.items()})
        if _key(params) not in tried and space.fits(params):
            return trial, params
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    left = [params for params in every if _key(params) not in tried]
    rng = np.random.default_rng(derive_seed(space.settings.seed, "untried", number))
    chosen = dict(given if given is not None else left[int(rng.integers(len(left)))])
    study.enqueue_trial(chosen)
    trial = study.ask()
    for key, own in space.choices.items():
        trial.suggest_categorical(key, own)
    return trial, chosen


def _tell(
    study: optuna.Study,
    trial: optuna.Trial,
    one: Scored,
    *,
    place: int,
    space: Space,
    params: Mapping[str, Any],
) -> None:
    """Record what came of a trial; its attributes come first, as a trial with its state is never changed."""
    import optuna

    trial.set_user_attr(_PLACE, place)
    if one.error:
        trial.set_user_attr(_ERROR, one.error)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return
    trial.set_user_attr("sd", one.sd)
    trial.set_user_attr("seconds", round(one.seconds, 3))
    study.tell(trial, one.score)


def _result(trial: optuna.trial.FrozenTrial, space: Space) -> TrialResult:
    params, attributes = space.normal(trial.params), trial.user_attrs
    assert trial.value is not None  # of a complete trial
    return TrialResult(
        number=attributes[_PLACE],
        params=params,
        arm=table_of(space.arm(params)),
        score=float(trial.value),
        sd=float(attributes["sd"]),
        seconds=float(attributes["seconds"]),
    )


def _placed(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Return the trials with a result, in order."""
    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    return sorted(
        (trial for trial in finished if _PLACE in trial.user_attrs), key=lambda trial: int(trial.user_attrs[_PLACE])
    )


def _open(journal: Path, *, whole: int, total: int, seed: int) -> optuna.Study:
    """Return the study in `journal`, anew with the trials of its whole batches: of another, only some may be scored.

    A journal that cannot be read is begun again: the scores it lacks are on disk.
    """

    for lock in journal.parent.glob(f"{journal.name}.lock*"):  # of a killed process: this one has the folder
        lock.unlink(missing_ok=True)
    kept: list[optuna.trial.FrozenTrial] = []
    if journal.is_file():
        try:
            kept = _placed(_study(journal, seed=seed))
        except (ValueError, KeyError, TypeError, AssertionError, IndexError, AttributeError) as error:
            logger.warning(f"{journal} is damaged ({error}); the search begins again, with the scores that are on disk")
    places = [trial.user_attrs[_PLACE] for trial in kept]
    count = next((number for number, place in enumerate(places) if number != place), len(places))
    kept = kept[: count if count == total else count // whole * whole]
    with temporary_beside(journal) as temporary:
        study = _study(temporary, seed=seed)
        study.add_trials(kept)
        temporary.replace(journal)
    return _study(journal, seed=seed)


def _study(journal: Path, *, seed: int) -> optuna.Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name=_STUDY,
        direction="maximize",
        load_if_exists=True,
        sampler=_sampler(seed),
    )


def _sampler(seed: int) -> optuna.samplers.BaseSampler:
    import optuna

    # The parameters depend on each other: a weak weight goes with many images.
    return optuna.samplers.TPESampler(seed=seed % 2**32, multivariate=True, constant_liar=True)


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Silence what Optuna says of single trials, and that features it has had for years may change."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _key(params: Mapping[str, Any]) -> str:
    return repr(sorted(params.items()))
