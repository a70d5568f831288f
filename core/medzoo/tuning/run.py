"""Tune how to use synthetic images: draw pools, search policies, train the best ones, and prove the winner once.

Everything but the last step sees the training part alone, in inner folds. What is done lies on disk under hashes, so
that the same command goes on where it was killed, to the same policy.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from statistics import fmean, stdev
from typing import Any

from medzoo._version import __version__
from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError, ResourceError
from medzoo.experiment.config import Design, metric_words
from medzoo.experiment.forecast import forecast
from medzoo.experiment.plan import ExperimentPlan, plan_experiment
from medzoo.experiment.results import Experiment, check_cell, read_cell
from medzoo.experiment.run import TaskWork
from medzoo.experiment.run import run as run_experiment
from medzoo.experiment.selection import criteria_of, pool_features
from medzoo.experiment.tasks import Failure, Runner, Task, task_runner
from medzoo.generation.selection import needs_features
from medzoo.hub.registry import WEIGHTS
from medzoo.models.devices import hardware
from medzoo.runs.identity import exclusive_run, lock_run_dir
from medzoo.runs.progress import Progress, no_progress
from medzoo.runs.record import RunRecord, git_commit
from medzoo.storage.files import plain, write_atomic
from medzoo.tuning.plan import JOB, TuningJob, held_out_design, length_of, search_design
from medzoo.tuning.policy import Policy, data_facts
from medzoo.tuning.pools import draw
from medzoo.tuning.results import (
    FINALISTS,
    HELD_OUT,
    JOURNAL,
    PHASES,
    POLICY,
    SEARCH,
    TUNING,
    PoolInfo,
    TrialResult,
    TuningResult,
    best_control,
    compare_with_controls,
    load_tuning,
    read_tuning,
    write_tuning,
)
from medzoo.tuning.search import Scored, search
from medzoo.tuning.space import Space, table_of

logger = logging.getLogger(__name__)

# Seconds that a classifier on frozen features takes in a fold, before one was timed.
_CELL = 1.0
_SAVE_EVERY = 5.0  # seconds


def run(job: TuningJob, *, jobs: int, progress: Progress) -> TuningResult:
    """Do what the job's folder lacks, and return the result; a finished tuning is only read.

    Raises:
        ConfigError: the budget is too small.
        ResourceError: the disk or memory is full, or a training failed; what is done is kept.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs}", "use 1 or more")
    with exclusive_run(job.folder):
        lock_run_dir(job.folder, job.identity)
        stored = read_tuning(job.folder) or {}
        if stored.get("verdict"):
            logger.info(f"{job.folder} is finished: its held-out images are not looked at again")
            if not (job.folder / POLICY).is_file():
                write_atomic(job.folder / POLICY, str(stored["policy"]).encode())
            return load_tuning(job.folder)
        record = RunRecord(job=JOB, folder=job.folder)
        tuning = _Tuning(job, stored, jobs=jobs, progress=progress)
        tuning.finish(record)
        return load_tuning(job.folder)


class _Tuning:
    """A tuning at work: its phases in order, their time, and what tuning.json says of it."""

    def __init__(self, job: TuningJob, stored: Mapping[str, Any], *, jobs: int, progress: Progress) -> None:
        self.job, self.jobs, self._progress = job, jobs, progress
        self.seconds: dict[str, float] = {name: float(stored.get("seconds", {}).get(name, 0.0)) for name in PHASES}
        self.warnings = list(job.warnings)
        self.pools = {str(pool["name"]): PoolInfo(**pool) for pool in stored.get("pools", ())}
        self.trials: list[TrialResult] = []
        self.baselines: dict[str, float] = {}
        self._phase, self._since, self._saved = "", 0.0, time.monotonic()
        self._estimates: dict[str, float] = dict.fromkeys(PHASES, 0.0)

    def finish(self, record: RunRecord) -> None:
        """Do all phases, and write the policy, tuning.json and run.json."""
        job = self.job
        logger.info(job.describe())
        for line in job.warnings:
            logger.info(line)
        self._estimate()
        with self.phase("drawing"):
            self._draw()
        plan = self._search_plan()
        with self.phase("features"):
            self._features(plan)
        with self.phase("search"):
            self._search(plan)
        with self.phase("finalists"):
            finalists = self._finalists()
        winner, control = _winner(finalists, self.finalists, job.classifier)
        augment = _mean(finalists, winner.arm["name"], job.classifier) > _mean(finalists, control, job.classifier)
        with self.phase("held-out"):
            held_out = self._held_out(winner)
        self._write(record, winner, control, augment=augment, finalists=finalists, held_out=held_out)

    # --- time

    @property
    def elapsed(self) -> float:
        """The seconds of all phases so far, over all runs."""
        running = time.monotonic() - self._since if self._phase else 0.0
        return sum(self.seconds.values()) + running

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of a phase, whether it ends or is interrupted."""
        self._phase, self._since = name, time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - self._since
            self._phase = ""
            self.save()

    def report(self, done: int, total: int, note: str) -> None:
        """Show how much of the phase is done, of what the `note` says; from time to time, keep the time in tuning.json.

        The first call in a phase states what earlier runs have done, so that they do not count as fast work.
        """
        self._progress(done, total, note)
        now = time.monotonic()
        if now - self._saved > _SAVE_EVERY:
            self.seconds[self._phase] += now - self._since
            self._since = now
            self.save()

    def save(self, **final: Any) -> None:
        """Write tuning.json."""
        self._saved = time.monotonic()
        job = self.job
        values = {
            "settings": job.design.flat(),
            "origins": dict(job.design.settings.origins),
            "provenance": _provenance(job),
            "budget": job.budget,
            "seconds": {name: round(seconds, 1) for name, seconds in self.seconds.items()},
            "pools": list(self.pools.values()),
            "baselines": self.baselines,
            "trials": self.trials,
            "warnings": list(dict.fromkeys(self.warnings)),
            "verdict": "",
        }
        write_tuning(job.folder, {**values, **final})

    def _estimate(self) -> None:
        """Estimate the seconds of each phase where there is a budget. Raises: ConfigError if it is too small."""
        job = self.job
        if job.budget is None:
            return
        missing = {name: drawing.missing() for name, drawing in job.drawings.items()}
        self._estimates["drawing"] = sum(
            count * job.drawings[name].sampler.seconds_per_image(0) for name, count in missing.items() if count
        )
        searching, training, proving = (forecast(plan, measure=True) for plan in job.plans)
        own = searching.models[0]
        known = len(job.inner) + sum(sum(task.counts.values()) for task in job.plans[0].samplings)
        images = sum(drawing.plan.total for drawing in job.drawings.values())
        self._estimates["features"] = (own.seconds or 0.0) * images / known * any(missing.values())
        self._estimates["search"] = self.policies * self._cells_of_a_policy * _CELL / self.jobs
        for name, found, arms in (
            ("finalists", training, 4 + 3 * job.settings.finalists),
            ("held-out", proving, 7),
        ):
            own = found.models[0]
            each = (own.seconds or 0.0) / max(own.trainings, 1)
            cells = self._cells_of_a_policy if name == "finalists" else job.settings.seeds
            self._estimates[name] = each * cells * arms / self.jobs
        needed = sum(self._estimates.values()) - self._estimates["search"] + self._cells_of_a_policy * _CELL
        if self.elapsed + needed > 60 * job.budget:
            steps = {
                "their features": self._estimates["features"],
                "one policy": self._cells_of_a_policy * _CELL,
                "the finalists": self._estimates["finalists"],
                "the held-out part": self._estimates["held-out"],
            }
            spent = f", after {_minutes(self.elapsed)} so far" if self.elapsed > 1 else ""
            raise ConfigError(
                f"--budget {job.budget:g} minutes is too small{spent}: drawing {sum(missing.values())} images takes "
                f"about {_minutes(self._estimates['drawing'])}, "
                + ", ".join(f"{what} {_minutes(seconds)}" for what, seconds in steps.items()),
                f"give --budget {math.ceil((self.elapsed + 1.1 * needed) / 6) / 10:g} or more, fewer generators, "
                "finalists or seeds, or a smaller classifier",
            )

    @property
    def policies(self) -> int:
        """How many policies are scored at most."""
        return min(self.job.settings.trials, len(list(self.job.space.all())))

    @property
    def _cells_of_a_policy(self) -> int:
        return self.job.settings.folds * self.job.settings.repeats

    # --- phases

    def _draw(self) -> None:
        job = self.job
        for pool in job.pools:

            def count(done: int, total: int, note: str = "", /, name: str = pool.name) -> None:
                self.report(done, total, f"images of {name}")

            info = draw(job.drawings[pool.name], pool, progress=count)
            earlier = self.pools[pool.name].seconds if pool.name in self.pools else 0.0
            self.pools[pool.name] = replace(info, seconds=round(earlier + info.seconds, 1))

    def _search_plan(self) -> ExperimentPlan:
        """Plan the experiment of the search: the controls, and one plain policy of each pool."""
        job, space = self.job, self.job.space
        plain_arms = [table_of(space.arm(space.plain(pool))) for pool in space.pools]
        design = search_design(job.design, arms=plain_arms, target=[plain_arms[0]["target"]])
        return _plan(design, job, job.inner, SEARCH)

    def _features(self, plan: ExperimentPlan) -> None:
        """Extract the features of the real images and of each pool, once; others read them from the cache."""
        worker, name = plan.worker, self.job.settings.search
        recipe = worker.recipes[name]
        if not recipe.spec.converges:
            return
        base = recipe.base().image
        frozen = worker.features(name)
        frozen.of(worker.real(base.size, base.channels, base.crop))
        criteria = tuple({each for text in self.job.space.select for each in criteria_of(text)})
        self.report(0, len(worker.folders), "sets of features")
        for number, (pool, folder) in enumerate(worker.folders.items(), start=1):
            frozen.of(worker.ready(pool, base.size, base.channels))
            if needs_features(criteria):
                pool_features(worker, folder.data, crop=worker.crop_of(pool), criteria=criteria)
            self.report(number, len(worker.folders), "sets of features")

    def _search(self, plan: ExperimentPlan) -> None:
        job, space = self.job, self.job.space
        worker, total = plan.worker, self.policies
        controls = run_experiment(plan, jobs=self.jobs, progress=no_progress)
        _check_complete(controls)
        self.baselines = {
            arm.name: _mean(controls, arm.name, job.settings.search) for arm in controls.arms if arm.control
        }
        best = max(self.baselines.values())
        logger.info(
            "controls in the inner folds: " + ", ".join(f"{name} {mean:.3f}" for name, mean in self.baselines.items())
        )
        began, place = 0.0, -1

        def stop(number: int) -> bool:
            nonlocal began, place
            if place < 0:  # those of earlier runs are in: this one begins
                began, place = time.monotonic(), number
                self.report(len(self.trials), total, f"policies, best {best:.3f}")
            scored = number - place
            pace = (time.monotonic() - began) / scored if scored else 0.0
            later = self._estimates["finalists"] + self._estimates["held-out"]
            over = job.budget is not None and self.elapsed + job.settings.batch * pace + later > 60 * job.budget
            if over and number:
                self.warnings.append(
                    f"the search stopped after {number} of {total} policies, so that the whole keeps to --budget "
                    f"{job.budget:g} minutes"
                )
                logger.info(self.warnings[-1])
            return over and number > 0

        def on_trial(trial: TrialResult) -> None:
            nonlocal best
            self.trials.append(trial)
            if trial.score > best:
                best = trial.score
                logger.info(f"policy {trial.number}: {trial.arm['name']}: {best:.3f}, the best so far")
            if place >= 0:
                self.report(len(self.trials), total, f"policies, best {best:.3f}")

        with task_runner(TaskWork(worker), jobs=self.jobs, cluster=plan.cluster, folder=worker.home) as runner:
            score: Callable[[Sequence[Mapping[str, Any]]], list[Scored]] = partial(_score, plan, space, runner)
            search(space, score, job.folder / JOURNAL, stop=stop, on_trial=on_trial)

    @cached_property
    def finalists(self) -> list[TrialResult]:
        """The best policies of the search, the best first."""
        ordered = sorted(self.trials, key=lambda trial: (-trial.score, trial.number))
        return ordered[: self.job.settings.finalists]

    def _finalists(self) -> Experiment:
        job, value = self.job, self.job.settings
        tables = [dict(trial.arm) for trial in self.finalists]
        design = job.design.experiment(
            FINALISTS,
            classifier=job.classifier,
            folds=value.folds,
            arms=tables,
            target=[tables[0]["target"]],
            **length_of(value),
        )
        return self._run(_plan(design, job, job.inner, FINALISTS), "finalists")

    def _held_out(self, winner: TrialResult) -> Experiment:
        job = self.job
        table = table_of(job.space.held_out_arm(winner.params))
        design = held_out_design(job.design, job.classifier, arms=[table], target=[table["target"]])
        plan = plan_experiment(
            design,
            job.data,
            job.folder / HELD_OUT,
            source=job.source,
            tests=job.tests,
            allow_leak=job.allow_leak,
        )
        return self._run(plan, "held-out part")

    def _run(self, plan: ExperimentPlan, what: str) -> Experiment:
        def count(done: int, total: int, note: str = "", /) -> None:
            self.report(done, total, f"tasks of the {what}")

        result = run_experiment(plan, jobs=self.jobs, progress=count)
        _check_complete(result)
        return result

    def _write(
        self,
        record: RunRecord,
        winner: TrialResult,
        control: str,
        *,
        augment: bool,
        finalists: Experiment,
        held_out: Experiment,
    ) -> None:
        job = self.job
        name = job.space.held_out_arm(winner.params).name
        verdict, hurts = _verdict(held_out, name, job.classifier, winner, control, finalists, augment=augment)
        if optimistic := [pool.name for pool in job.pools if pool.model.trained_on]:
            self.warnings.append(
                f"{', '.join(optimistic)}: trained on images that the inner folds test on, so scores there are too "
                "optimistic for their policies; the held-out part decides"
            )
        policy = _policy(
            job,
            winner,
            control,
            finalists,
            policies=len(self.trials),
            verdict=verdict,
            augment=augment and not hurts,
        )
        text = policy.to_toml()
        write_atomic(job.folder / POLICY, text.encode())
        self.save(verdict=verdict, policy=text, winner=winner.number, control=control)
        record.config, record.origins = job.design.flat(), job.design.settings.origins
        record.weights = {pool.name: pool.model.weights_sha256 or "" for pool in job.pools}
        record.data = _provenance(job)["data"]
        record.seeds = {"seed": job.settings.seed}
        record.device = job.source.device
        record.add_outputs([job.folder / TUNING, job.folder / POLICY])
        record.scores = {
            job.settings.metric: plain({arm.name: _mean(held_out, arm.name, job.classifier) for arm in held_out.arms})
        }
        record.extra = {"jobs": self.jobs, "verdict": verdict, "warnings": list(self.warnings)}
        record.finish()


def _plan(design: Design, job: TuningJob, data: Dataset, name: str) -> ExperimentPlan:
    """Plan an experiment in the inner folds, where published generators may have seen test images (recorded)."""
    return plan_experiment(design, data, job.folder / name, source=job.source, allow_leak=True)


def _score(plan: ExperimentPlan, space: Space, runner: Runner, policies: Sequence[Mapping[str, Any]]) -> list[Scored]:
    """Train and test the search's classifier on each policy in each fold, as far as its cells are not on disk."""
    arms, home, metric = [space.arm(params) for params in policies], plan.worker.home, space.settings.metric
    cells = plan.cells_of(arms)
    failures: dict[str, str] = {}

    def on_done(task: Task, failure: Failure | None) -> None:
        if failure is not None:
            failures[task.key] = failure.message

    runner([cell for cell in cells if not check_cell(home, cell.key)[0]], on_done=on_done)
    found = []
    for arm in arms:
        own = [cell for cell in cells if cell.arm == arm]
        if errors := [failures[cell.key] for cell in own if cell.key in failures]:
            found.append(Scored(error=errors[0]))
            continue
        results = [result for cell in own if (result := read_cell(home, cell.key)) is not None]
        values = [result.value(metric) for result in results]
        known = [value for value in values if value is not None and math.isfinite(value)]
        if len(known) < len(own):
            found.append(Scored(error=f"{metric_words(metric)} is undefined in a fold"))
            continue
        found.append(
            Scored(
                score=fmean(known),
                sd=stdev(known) if len(known) > 1 else 0.0,
                seconds=sum(result.seconds for result in results),
            )
        )
    return found


def _check_complete(result: Experiment) -> None:
    """Raise ResourceError if a cell has no scores: nothing is decided on partial means."""
    if lost := [*result.failed, *result.missing]:
        raise ResourceError(
            f"{len(lost)} of {len(result.cells)} trainings in {result.folder} failed: {lost[0].error or 'not run'}",
            "run the same command again; what is done is kept",
        )


def _mean(result: Experiment, arm: str, classifier: str) -> float:
    return result.summary(arm, classifier).estimates[result.metric].mean


def _winner(result: Experiment, finalists: Sequence[TrialResult], classifier: str) -> tuple[TrialResult, str]:
    """Return the finalist with the best mean, the first of equal ones, and the best control."""
    winner = max(finalists, key=lambda trial: _mean(result, trial.arm["name"], classifier))
    return winner, best_control(result, classifier)


def _verdict(
    held_out: Experiment,
    name: str,
    classifier: str,
    winner: TrialResult,
    control: str,
    finalists: Experiment,
    *,
    augment: bool,
) -> tuple[str, bool]:
    """Return the verdict in one sentence, and whether the policy is shown to hurt."""
    against = best_control(held_out, classifier)
    test = next(found for found in compare_with_controls(held_out, name, classifier) if found.baseline == against)
    images = held_out.provenance["data"]["parts"][0]["test"]
    own, other = _mean(held_out, name, classifier), _mean(held_out, against, classifier)
    words, found = metric_words(held_out.metric), test.test.difference
    claim = (
        f"{'helps' if test.difference > 0 else 'hurts'}"
        if test.shown
        else "makes no difference that could be shown for"
    )
    if found.reason:
        proof = f"without a test, as {found.reason}"
    else:
        p = "p < 0.001" if test.p < 0.001 else f"p = {test.p:.3f}"
        proof = (
            f"95% interval {100 * found.low:+.1f} to {100 * found.high:+.1f}, Holm-adjusted {p} over {test.family} "
            "comparisons"
        )
    inner = ""
    if not augment:
        before = [_mean(finalists, arm, classifier) for arm in (winner.arm["name"], control)]
        inner = f"in the inner folds no policy beat '{control}' ({before[0]:.3f} against {before[1]:.3f}); "
    dont = not augment or (test.shown and test.difference < 0)
    start = "Do not augment: " if dont else "Augment: " if test.shown else "No gain is proved: "
    sentence = (
        f"{start}{inner}on {images} held-out images, the policy '{name}' {claim} '{classifier}' against "
        f"its best control '{against}': {words} {own:.3f} against {other:.3f}, "
        f"{100 * found.mean:+.1f} points ({proof}; {found.n} seeds)."
    )
    return sentence, bool(test.shown and test.difference < 0)


def _policy(
    job: TuningJob,
    winner: TrialResult,
    control: str,
    finalists: Experiment,
    *,
    policies: int,
    verdict: str,
    augment: bool,
) -> Policy:
    """Return the policy of the winner; without times and paths, so that the same tuning gives the same bytes."""
    params, space, value = winner.params, job.space, job.settings
    (pool,) = [pool for pool in job.pools if pool.name == params["pool"]]
    arm = space.arm(params)
    plugin = job.source.plugins.plugin_of("generator", pool.model.spec.name)
    return Policy(
        augment=augment,
        generator=pool.generator,
        settings={key: own for key, own in pool.settings.items() if key != "sampling.strength"},
        weights_sha256=pool.model.weights_sha256 or "",
        plugin=pool.model.spec.name,
        plugin_version=plugin.version,
        **data_facts(job.train),
        target_share=params["target"],
        select=arm.select,
        pool=value.pool,
        extractor=value.extractor,
        loss_weight=arm.loss_weight,
        batch_share=arm.batch_share,
        replace=arm.replace,
        stage=arm.stage,
        fill=arm.classes,
        weighted=arm.weighted,
        verdict=verdict,
        tuned={
            "medzoo": __version__,
            "classifier": job.classifier,
            "metric": value.metric,
            "images": len(job.inner),
            "policies": policies,
            "folds": value.folds,
            "seeds": value.seeds,
            "seed": value.seed,
            "score_in_inner_folds": round(_mean(finalists, winner.arm["name"], job.classifier), 6),
            "best_control": control,
            "best_control_in_inner_folds": round(_mean(finalists, control, job.classifier), 6),
        },
    )


def _provenance(job: TuningJob) -> dict[str, Any]:
    """Return which medzoo, machine, data, classifier and generators a tuning is of."""
    data = job.data
    return {
        "medzoo": __version__,
        "git_commit": git_commit(),
        "device": job.source.device,
        "hardware": hardware(job.source.device),
        "classifier": job.classifier,
        "data": {
            "path": str(data.path),
            "fingerprint": job.inner.fingerprint(),
            "counts": data.counts(),
            "held_out": {name: part.counts() for name, part in data.held_out.items()},
            "tests": [str(test.path) for test in job.tests],
        },
        "generators": {
            pool.name: {"generator": pool.generator, WEIGHTS: pool.model.weights_sha256} for pool in job.pools
        },
        "allow_leak": job.allow_leak,
    }


def _minutes(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
