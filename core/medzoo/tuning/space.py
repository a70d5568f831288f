"""The space of policies that a tuning searches: what may be chosen, the arm of a choice, and the images it needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medzoo.data.dataset import Dataset
from medzoo.errors import ConfigError
from medzoo.experiment.config import LEVERS, Arm
from medzoo.experiment.training_sets import synthetic_counts
from medzoo.generation.selection import pool_counts
from medzoo.tuning.config import TuningSettings

Params = Mapping[str, Any]

TOGETHER: Mapping[str, float | str] = {"batch_share": 0.0, "replace": 0.0, "stage": "together"}
"""The plain use of images, beside the real ones."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """The policies of a tuning.

    `pools` are the names of the pools and the image folders that arms name them by. `parts` are the training images of
    the inner folds, and `whole` is the whole training part. `uses` are the ways to use images by name, each with its
    levers. `limits` are the largest numbers of images of each class, in an inner fold and on the whole, that a policy
    may need; None for as many as it likes.
    """

    settings: TuningSettings
    pools: Mapping[str, str]
    parts: tuple[Dataset, ...]
    whole: Dataset
    targets: tuple[float, ...]
    loss_weights: tuple[float, ...]
    uses: Mapping[str, Mapping[str, Any]]
    classes: tuple[str, ...]
    weighted: tuple[bool, ...]
    select: tuple[str, ...]
    limits: tuple[Mapping[str, int], Mapping[str, int]] | None = None
    _needs: dict[tuple[Any, ...], tuple[dict[str, int], dict[str, int]]] = field(default_factory=dict, repr=False)

    @property
    def choices(self) -> dict[str, list[Any]]:
        """The values of each parameter."""
        return {
            "pool": list(self.pools), "target": list(self.targets), "loss_weight": list(self.loss_weights),
            "use": list(self.uses), "classes": list(self.classes),
            "weighted": list(self.weighted), "select": list(self.select),
        }  # fmt: skip

    def plain(self, pool: str) -> dict[str, Any]:
        """Return the choice that uses a pool's images as they are: classes filled to the largest, if that is offered.

        Of other parameters, it takes the values that do least, where they are offered, or else the first.
        """
        wanted = {"target": 1.0, "loss_weight": 1.0, "classes": "minority", "weighted": False, "select": "none"}
        choices = self.choices
        chosen = {key: value if value in choices[key] else choices[key][0] for key, value in wanted.items()}
        return self.normal({"pool": pool, **chosen, "use": next(iter(self.uses))})

    def normal(self, params: Params) -> dict[str, Any]:
        """Return the choice with the parameters that have no effect in it at their neutral value.

        Two choices with the same normal form are the same policy.
        """
        found, use = dict(params), self.uses[params["use"]]
        if use["replace"] or use["batch_share"] or use["stage"] == "pretrain":
            found["loss_weight"] = 1.0
        if _apart(use):
            found["classes"] = "minority"
        if found["select"] != "none" and not self.fits(found):
            found["select"] = "none"
        return found

    def fits(self, params: Params) -> bool:
        """Return whether the pools hold as many images as the choice needs, in every fold and on the whole."""
        if self.limits is None:
            return True
        return all(
            count <= limit.get(label, 0)
            for need, limit in zip(self.needs(params), self.limits, strict=True)
            for label, count in need.items()
        )

    def all(self) -> Iterator[dict[str, Any]]:
        """Yield every policy once, in normal form: those for which there are images."""
        choices, seen = self.choices, set()
        for values in itertools.product(*choices.values()):
            params = self.normal(dict(zip(choices, values, strict=True)))
            key = tuple(params.values())
            if key not in seen and self.fits(params):
                seen.add(key)
                yield params

    def arm(self, params: Params) -> Arm:
        """Return the arm of a choice in the inner folds."""
        return self._arm(params, self.inner_target(params["target"]))

    def held_out_arm(self, params: Params) -> Arm:
        """Return the arm of a choice on the whole training part."""
        return self._arm(params, max(1, round(params["target"] * max(self.whole.counts().values()))))

    def inner_target(self, share: float) -> int:
        """Return the target of the inner folds for a share of the largest class.

        That of the fold where it has the fewest images, so that a share of 1 adds none to it.
        """
        return max(1, round(share * min(max(part.counts().values()) for part in self.parts)))

    def _arm(self, params: Params, target: int) -> Arm:
        levers = {
            **self.uses[params["use"]],
            "loss_weight": params["loss_weight"],
            "classes": params["classes"],
            "weighted": params["weighted"],
            "select": params["select"],
        }
        arm = Arm(name="", mixture={self.pools[params["pool"]]: 1.0}, target=target, **levers)
        pulled = [LEVERS[name].format(value) for name, value in arm.levers.items()]
        return replace(arm, name=", ".join([f"{params['pool']} to {params['target']:.0%}", *pulled]))

    def needs(self, params: Params) -> tuple[dict[str, int], dict[str, int]]:
        """Return the images of each class that a choice needs, most of any inner fold, and on the whole training part.

        Where it selects, this is what it selects from.
        """
        key = tuple(params[name] for name in ("target", "use", "classes", "select"))
        if key not in self._needs:
            inner: dict[str, int] = {}
            for part in self.parts:
                for label, count in self._drawn(part, self.arm(params)).items():
                    inner[label] = max(inner.get(label, 0), count)
            self._needs[key] = inner, self._drawn(self.whole, self.held_out_arm(params))
        return self._needs[key]

    def _drawn(self, part: Dataset, arm: Arm) -> dict[str, int]:
        (counts,) = synthetic_counts(part, arm).values()
        return dict(counts) if arm.select == "none" else pool_counts(counts, self.settings.pool)

    def largest_needs(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the numbers of images of each class to draw, for the inner folds and for the whole training part.

        They are the most that any policy needs which adds images as they are, or selects them up to the size of the
        largest class. Selections of more, and replacements, are offered as far as these images suffice; the smallest
        target always is, of replacements without a selection.
        """
        inner: dict[str, int] = {}
        whole: dict[str, int] = {}
        smallest, adding = min(self.targets), [use for use in self.uses.values() if not _apart(use)]
        alone = replace(
            self, pools=dict([next(iter(self.pools.items()))]), loss_weights=self.loss_weights[:1], weighted=(False,)
        )
        for params in alone.all():
            # Without another use, the one there is decides.
            apart = bool(adding) and _apart(self.uses[params["use"]])
            selects = params["select"] != "none"
            if (apart and selects) or (params["target"] > smallest and (apart or (selects and params["target"] > 1))):
                continue
            for most, need in zip((inner, whole), self.needs(params), strict=True):
                for label, count in need.items():
                    most[label] = max(most.get(label, 0), count)
        return inner, whole


def table_of(arm: Arm) -> dict[str, Any]:
    """Return an arm of one pool as a table that experiments take."""
    return {"images": next(iter(arm.mixture)), "name": arm.name, "target": arm.target, **arm.levers}


def _apart(use: Mapping[str, Any]) -> bool:
    """Return whether images are not added to the real ones, so that every class needs `target` of them."""
    return bool(use["replace"]) or use["stage"] == "pretrain"


def uses_of(settings: TuningSettings) -> dict[str, dict[str, Any]]:
    """Return the ways to use images that `settings` name: one of the levers at a time, or none."""
    found: dict[str, dict[str, Any]] = {}
    levers = [("batch_share", 0.0), ("replace", 0.0), ("stage", "together")]
    for key, neutral in levers:
        for value in getattr(settings, key):
            own = {**TOGETHER, key: value}
            name = "together" if value == neutral else LEVERS[key].format(value)
            # "together" is meant where every list has it: a list without it asks for its own values only.
            if value != neutral or all(other in getattr(settings, each) for each, other in levers):
                found.setdefault(name, own)
    return {name: found[name] for name in sorted(found, key=lambda name: name != "together")}


def targets_that_add(settings: TuningSettings, parts: Sequence[Dataset], whole: Dataset) -> tuple[float, ...]:
    """Return the shares of the largest class by which every part gets images.

    Raises: ConfigError if there are none.
    """
    low = min(max(part.counts().values()) for part in parts)
    found = tuple(
        share
        for share in settings.target
        if all(max(1, round(share * low)) > min(part.counts().values()) for part in parts)
        and round(share * max(whole.counts().values())) > min(whole.counts().values())
    )
    if not found:
        listed = ", ".join(f"{share:g}" for share in settings.target)
        raise ConfigError(
            f"target = {listed} adds no image: every class has as many as that share of the largest one",
            "give a share above 1: --set target=1.5",
        )
    return found
