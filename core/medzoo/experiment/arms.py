"""Arms of an experiment: the training set that each gives its classifiers. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from medzoo.generation.mixture import parse_mixture

REAL, WEIGHTED, DUPLICATE, CLASSIC = "real", "weighted", "duplicate", "classic"
CONTROLS = (REAL, WEIGHTED, DUPLICATE, CLASSIC)
"""What generated images have to beat at equal image counts and equal optimizer steps."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to compose the training set; `name` is unique in its experiment and is what reports print.

    `mixture` gives each generator's share of the synthetic images, summing to 1; empty if there are none.
    `target`: images of each class after augmentation, or in all if an image may have several labels; 0 without a
    mixture. `weighted`: the loss weights classes by inverse frequency. The classifier is trained on `real_fraction` of
    the real training images, if `pretrain` after a first stage on the mixture's images alone. `geometric`: flips,
    rotations and shifts are added to the classifier's own augmentation.
    """

    name: str
    mixture: Mapping[str, float] = field(default_factory=dict)
    target: int = 0
    weighted: bool = False
    pretrain: bool = False
    real_fraction: float = 1.0
    geometric: bool = False

    @property
    def control(self) -> bool:
        """Whether it is one of those that generated images have to beat."""
        return not set(self.mixture) - {DUPLICATE, CLASSIC}


def parse_arms(texts: Sequence[str], *, targets: Sequence[int], controls: bool) -> tuple[Arm, ...]:
    """Parse the arms in `texts`, after the controls if wanted; one per target for those with synthetic images.

    A text is "real", "weighted", the name of a generator, or a mixture such as "ldm-busi=0.5+ddpm-var-busi=0.5". A
    target of 0 stands for the real images alone.
    Raises: ConfigError for a mixture whose shares do not sum to 1.
    """
    wanted = [*(CONTROLS if controls else ()), *texts]
    if 0 in targets and REAL not in wanted:
        wanted.insert(0, REAL)
    arms: list[Arm] = []
    for text in dict.fromkeys(wanted):
        if text in (REAL, WEIGHTED):
            arms.append(Arm(name=text, weighted=text == WEIGHTED))
        else:
            arms += _filled(text, [target for target in targets if target])
    return tuple(arms)


def pretrain_arms(
    mixture: str, *, target: int, fractions: Sequence[float], geometric: Sequence[bool], weighted: Sequence[bool]
) -> tuple[Arm, ...]:
    """Combine pretraining or not, fraction of real images, geometric augmentation, and weighted loss.

    No arms if `mixture`, which makes the images, is "". Without real images there is only pretraining, without
    weighting, since the synthetic images are balanced. Raises: ConfigError as `parse_arms`.
    """
    if not mixture:
        return ()
    (filled,) = _filled(mixture, [target])
    return tuple(
        Arm(
            name=_row_name(pretrain, fraction, geometry, weighs),
            mixture=filled.mixture if pretrain else {},
            target=target if pretrain else 0,
            weighted=weighs,
            pretrain=pretrain,
            real_fraction=fraction,
            geometric=geometry,
        )
        for pretrain in (False, True)
        for fraction in fractions
        for geometry in geometric
        for weighs in weighted
        if fraction > 0 or (pretrain and not weighs)
    )


def _filled(text: str, targets: Sequence[int]) -> list[Arm]:
    mixture = {name: float(share) for name, share in parse_mixture(text.split("+") if "=" in text else [text])}
    several = len(targets) > 1
    return [Arm(name=f"{text}@{target}" if several else text, mixture=mixture, target=target) for target in targets]


def _row_name(pretrain: bool, fraction: float, geometric: bool, weighted: bool) -> str:
    if not pretrain and fraction == 1.0 and not geometric:
        return WEIGHTED if weighted else REAL
    start = f"real {fraction:.0%}" if fraction > 0 else "synthetic only"
    added = {"pretrained": pretrain and fraction > 0, "geometric": geometric, "weighted": weighted}
    return ", ".join([start, *(name for name, given in added.items() if given)])
