"""The text of a tuning's report: what was done, the policy in words, and what brought nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from medzoo.report.formatting import format_score, join_words, pluralize
from medzoo.report.tuning.levers import LeverValue
from medzoo.tuning.policy import Policy
from medzoo.tuning.results import PHASES, TrialResult, TuningResult, best_control

_PHASES: Mapping[str, str] = {
    "drawing": "drawing the pools of images",
    "features": "extracting the features of all images",
    "search": "scoring the policies of the search",
    "finalists": "training the best policies in the inner folds",
    "held-out": "training the winner and the controls, and testing them on the held-out part",
}


def trial_name(trial: TrialResult) -> str:
    """Return the name of a trial's policy."""
    return str(trial.arm.get("name") or trial.arm.get("images", f"policy {trial.number}"))


def search_control(result: TuningResult) -> tuple[str, float] | None:
    """Return the control with the highest score in the search, and its score; None without controls."""
    return max(result.baselines.items(), key=lambda item: item[1], default=None)


def badge(result: TuningResult) -> tuple[str, str]:
    """Return the verdict in a few words, and the kind of badge: "good" where a gain is shown, else "open" or "bad"."""
    best = "" if result.held_out is None else best_control(result.held_out, result.classifier)
    against = [found for found in result.comparisons if found.baseline == best and found.shown]
    if any(found.difference < 0 for found in against):
        return "Do not augment: a loss is shown", "bad"
    if not result.policy.augment:
        return "Do not augment", "open"
    return ("Gain", "good") if against else ("No gain shown", "open")


def describe_run(result: TuningResult) -> list[str]:
    """Describe what was done, a sentence each."""
    return list(_describe_run(result))


def _describe_run(result: TuningResult) -> Iterator[str]:
    data, settings = result.provenance.get("data", {}), result.settings
    counts = data.get("counts", {})
    listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    if counts:
        classes = pluralize(len(counts), "class", "classes")
        parts = {name: sum(own.values()) for name, own in data.get("held_out", {}).items()}
        apart = "".join(f", and {pluralize(count, 'image')} in the {name} part" for name, count in parts.items())
        training = pluralize(sum(counts.values()), "training image")
        yield f"The dataset, {data.get('path', '')}, has {training} in {classes} ({listed}){apart}."
    pools = pluralize(len(result.pools), "pool")
    images = pluralize(sum(pool.images for pool in result.pools), "image")
    folds = f"{settings['folds']} inner folds of the training part" if "folds" in settings else "inner folds"
    by = f" by '{settings['search']}'" if "search" in settings else ""
    yield f"{pluralize(len(result.trials), 'policy', 'policies')} over {pools} of {images} were scored{by} in {folds}."
    if result.finalists is not None:
        best = sum(not arm.control for arm in result.finalists.arms)
        (classifier,) = result.finalists.classifiers
        yield f"The best {best} were then trained with '{classifier}' in the same folds, beside the controls."
    if result.held_out is not None:
        seeds = pluralize(len({cell.seed for cell in result.held_out.cells}), "seed")
        tested = max((cell.n_test for cell in result.held_out.cells), default=0)
        yield (
            f"The winner and the controls were trained on the whole training part with {seeds}, at equal steps, and "
            f"tested once on {pluralize(tested, 'held-out image')}."
        )
    total = sum(result.seconds.values())
    within = f" of the {result.budget:g} minutes of --budget" if result.budget else ""
    yield f"It took {duration(total)}{within}."


def duration(seconds: float) -> str:
    """Return seconds in words: 0.4 s, 25 s, 3.2 min, 1.5 h."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def times(result: TuningResult) -> list[tuple[str, str, float]]:
    """Return for each phase what was done, the time in words, and its share of the whole."""
    total = sum(result.seconds.values()) or 1.0
    names = [*PHASES, *(name for name in result.seconds if name not in PHASES)]
    return [
        (_PHASES.get(name, name), duration(seconds), seconds / total)
        for name in names
        if (seconds := result.seconds.get(name, 0.0)) or name in result.seconds
    ]


def describe_policy(policy: Policy) -> list[tuple[str, str]]:
    """Describe a policy: what it says of each subject."""
    rows = [("Images of", policy.generator or "no generator")]
    if policy.settings:
        rows.append(("Settings", ", ".join(f"{key} = {value}" for key, value in policy.settings.items())))
    share = "the size of the largest class"
    if policy.target_share != 1:
        share = f"{policy.target_share:g} times {share}"
    if policy.stage == "pretrain" or policy.replace:
        amount = f"{share} for each class, beside the real images"
    elif policy.fill == "all":
        amount = f"as many as fill each class up to {share}, spread evenly over all classes"
    else:
        amount = f"each class is filled up to {share}"
    rows.append(("How many", amount))
    if policy.criteria:
        by = f"{join_words(policy.criteria)}, by features of {policy.extractor}"
        rows.append(("Which", f"the best 1 of {policy.pool:g} drawn, by {by}"))
    else:
        rows.append(("Which", "as drawn"))
    ways = {
        f"a real image is replaced by a synthetic one of its class with probability {policy.replace:g}": policy.replace,
        f"{policy.batch_share:.0%} of each batch is synthetic": policy.batch_share,
        f"a synthetic image counts {policy.loss_weight:g} in the loss": policy.loss_weight != 1,
        "the classifier is trained on the synthetic images first, then on the real ones": policy.stage == "pretrain",
        "the classifier is trained on all images, then its last layer on balanced real ones": policy.stage == "refit",
        "the loss weights classes by inverse frequency": policy.weighted,
    }
    use = [words for words, pulled in ways.items() if pulled]
    rows.append(("How used", "; ".join(use) or "like real images"))
    return rows


def without_gain(result: TuningResult, levers: Mapping[str, Sequence[LeverValue]]) -> list[str]:
    """Say which values of levers brought nothing: no policy with them scored above the best control of the search."""
    control = search_control(result)
    if control is None:
        return []
    name, score = control
    lines = []
    for title, rows in levers.items():
        for row in rows:
            if row.best.score <= score:
                count = pluralize(len(row.trials), "policy", "policies")
                lines.append(
                    f"{title} = {row.value}: the best of {count} scored {format_score(row.best.score)}, {name} "
                    f"{format_score(score)}"
                )
    return lines
