"""Select the metrics of an evaluation and their extractors, and say which are skipped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medzoo.errors import DataError, HubError, UnknownName
from medzoo.evaluation.features import MIRRORED, check_available, domain_classifier
from medzoo.evaluation.results import SkippedMetric
from medzoo.generation.mixture import Source
from medzoo.specs import DOMAIN, MetricSpec


@dataclass(frozen=True, kw_only=True)
class SelectedMetric:
    """A metric with its extractor, if it needs one; `chosen` if the user named it."""

    spec: MetricSpec
    extractor: str = ""
    chosen: bool = False

    @property
    def name(self) -> str:
        """The name as printed and typed: `kid@cnn-busi`, `ssim`."""
        return f"{self.spec.name}@{self.extractor}" if self.extractor else self.spec.name

    @property
    def needs_extractor(self) -> bool:
        """Whether it is computed from an extractor's features or distance."""
        return bool(self.spec.needs_features or self.spec.needs_distance or self.spec.needs_train)


def select_metrics(
    names: Sequence[str], source: Source, *, classes: Sequence[str], has_train: bool
) -> tuple[list[SelectedMetric], list[SkippedMetric]]:
    """Return the metrics in `names`, or without any every metric that can be computed here, and those skipped.

    Raises:
        UnknownName, PluginError: an unknown or broken metric or extractor.
        HubError: an extractor named by the user whose weights are not on this machine.
        DataError: a metric named by the user that needs training images, without any.
    """
    chosen: list[SelectedMetric] = []
    skipped: list[SkippedMetric] = []
    for name in names:
        metric, _, extractor = name.partition("@")
        spec = source.plugins.metric(metric)
        if extractor:
            chosen.append(_named(spec, extractor, source))
        else:
            chosen += _expanded(spec, source, classes=classes, skipped=skipped, chosen=True)
    for spec in [] if names else source.plugins.metrics.values():
        chosen += _expanded(spec, source, classes=classes, skipped=skipped, chosen=False)
    kept = [one for one in chosen if has_train or not one.spec.needs_train]
    for one in chosen:
        if one not in kept and names:
            raise DataError(f"{one.name} compares with the training images", "give them with --train DIR")
        if one not in kept:
            skipped.append(SkippedMetric(name=one.name, reason="no training images were given", hint="--train DIR"))
    if not kept and skipped:
        raise HubError(f"{skipped[0].name} cannot be measured: {skipped[0].reason}", skipped[0].hint)
    return list(dict.fromkeys(kept)), skipped


def _named(spec: MetricSpec, extractor: str, source: Source) -> SelectedMetric:
    metric = SelectedMetric(spec=spec, extractor=extractor, chosen=True)
    if not metric.needs_extractor:
        raise UnknownName("metric", metric.name, [spec.name], f"('{spec.name}' needs no extractor)")
    check_available(extractor, source)
    needed = {*spec.needs_features, *spec.needs_train} - {MIRRORED}
    offered = source.plugins.extractors.get(extractor)
    gives = set(offered.layers) if offered else {"features", "logits"}  # a classifier has these
    if not needed <= gives or (spec.needs_distance and not (offered and offered.perceptual)):
        fitting = [name for name in spec.extractors if name != DOMAIN]
        raise UnknownName(f"extractor of {spec.name}", extractor, fitting, f"('{extractor}' lacks what it needs)")
    return metric


def _expanded(
    spec: MetricSpec, source: Source, *, classes: Sequence[str], skipped: list[SkippedMetric], chosen: bool
) -> list[SelectedMetric]:
    """Return the metric with each of its default extractors that is available; the others go to `skipped`."""
    plain = SelectedMetric(spec=spec, chosen=chosen)
    if not plain.needs_extractor:
        return [plain]
    found = []
    for wanted in spec.extractors:
        name = wanted
        if wanted == DOMAIN:
            row = domain_classifier(source.registry, classes)
            if row is None:
                why = f"no classifier on this machine knows the classes {', '.join(classes)}"
                hint = "medzoo list --kind classifier"
                skipped.append(SkippedMetric(name=f"{spec.name}@{DOMAIN}", reason=why, hint=hint))
                continue
            name = row.id
        try:
            check_available(name, source)
        except HubError as error:
            skipped.append(SkippedMetric(name=f"{spec.name}@{name}", reason=error.message, hint=error.hint))
        else:
            found.append(SelectedMetric(spec=spec, extractor=name, chosen=chosen))
    return found
