"""Which metrics an evaluation measures, with which extractors, and what it has to leave out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medzoo.errors import DataError, HubError, UnknownName
from medzoo.evaluation.features import MIRRORED, domain_classifier, refuse_missing
from medzoo.evaluation.results import SkippedMetric
from medzoo.generation.mixture import Source
from medzoo.specs import DOMAIN, MetricSpec


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A metric with the extractor it is measured with, where it needs one; `chosen` by the user, by name."""

    spec: MetricSpec
    extractor: str = ""
    chosen: bool = False

    @property
    def name(self) -> str:
        """What is printed, and may be typed: `kid@cnn-busi`, `ssim`."""
        return f"{self.spec.name}@{self.extractor}" if self.extractor else self.spec.name

    @property
    def needs_extractor(self) -> bool:
        """Whether it is measured in an extractor's vectors or by its distance."""
        return bool(self.spec.needs_features or self.spec.needs_distance or self.spec.needs_train)


def choose(
    names: Sequence[str], source: Source, *, classes: Sequence[str], has_train: bool
) -> tuple[list[Measurement], list[SkippedMetric]]:
    """What `names` ask for, or without any all that can be measured here, and what had to be left out.

    Raises:
        UnknownName, PluginError: a metric or an extractor that is not there.
        HubError: an extractor named by the user whose weights are not on this machine.
        DataError: a metric named by the user that needs training images, without any.
    """
    chosen: list[Measurement] = []
    left_out: list[SkippedMetric] = []
    for name in names:
        metric, _, extractor = name.partition("@")
        spec = source.plugins.metric(metric)
        if extractor:
            chosen.append(_named(spec, extractor, source))
        else:
            chosen += _expanded(spec, source, classes=classes, left_out=left_out, chosen=True)
    for spec in [] if names else source.plugins.metrics.values():
        chosen += _expanded(spec, source, classes=classes, left_out=left_out, chosen=False)
    kept = [one for one in chosen if has_train or not one.spec.needs_train]
    for one in chosen:
        if one not in kept and names:
            raise DataError(f"{one.name} compares with the images that were trained on", "give them with --train DIR")
        if one not in kept:
            left_out.append(SkippedMetric(name=one.name, reason="no training images were given", hint="--train DIR"))
    if not kept and left_out:
        raise HubError(f"{left_out[0].name} cannot be measured: {left_out[0].reason}", left_out[0].hint)
    return list(dict.fromkeys(kept)), left_out


def _named(spec: MetricSpec, extractor: str, source: Source) -> Measurement:
    measurement = Measurement(spec=spec, extractor=extractor, chosen=True)
    if not measurement.needs_extractor:
        raise UnknownName("metric", measurement.name, [spec.name], f"('{spec.name}' needs no extractor)")
    refuse_missing(extractor, source)
    _refuse_unfit(spec, extractor, source)
    return measurement


def _refuse_unfit(spec: MetricSpec, extractor: str, source: Source) -> None:
    """Nothing. Raises: UnknownName for an extractor that does not give what the metric needs."""
    needed = {*spec.needs_features, *spec.needs_train} - {MIRRORED}
    offered = source.plugins.extractors.get(extractor)
    gives = set(offered.layers) if offered else {"features", "logits"}  # a classifier has these
    if needed <= gives and (not spec.needs_distance or (offered is not None and offered.perceptual)):
        return
    fitting = [name for name in spec.extractors if name != DOMAIN]
    raise UnknownName(f"extractor of {spec.name}", extractor, fitting, f"('{extractor}' does not give what it needs)")


def _expanded(
    spec: MetricSpec, source: Source, *, classes: Sequence[str], left_out: list[SkippedMetric], chosen: bool
) -> list[Measurement]:
    """The metric with each of its own extractors that is at hand; the others go to `left_out`."""
    plain = Measurement(spec=spec, chosen=chosen)
    if not plain.needs_extractor:
        return [plain]
    found = []
    for wanted in spec.extractors:
        name = wanted
        if wanted == DOMAIN:
            row = domain_classifier(source.registry, classes)
            if row is None:
                why = f"no classifier at hand knows the classes {', '.join(classes)}"
                mend = "medzoo list --kind classifier"
                left_out.append(SkippedMetric(name=f"{spec.name}@{DOMAIN}", reason=why, hint=mend))
                continue
            name = row.id
        try:
            refuse_missing(name, source)
        except HubError as error:
            left_out.append(SkippedMetric(name=f"{spec.name}@{name}", reason=error.message, hint=error.hint))
        else:
            found.append(Measurement(spec=spec, extractor=name, chosen=chosen))
    return found
