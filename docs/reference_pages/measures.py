"""Generate the page on first-party metrics and extractors from their specs."""

from __future__ import annotations

from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.specs import DOMAIN, ExtractorSpec, MetricSpec
from reference_pages.markdown import escaped, page, table


def measure_pages() -> dict[str, str]:
    """Return the page of metrics and extractors."""
    plugins = load_plugins()
    metrics = [spec for name, spec in sorted(plugins.metrics.items()) if _own(plugins, "metric", name)]
    extractors = [spec for name, spec in sorted(plugins.extractors.items()) if _own(plugins, "extractor", name)]
    return {
        "metrics.md": page(
            "# Metrics and extractors",
            "[Evaluation](../metrics.md) explains how metrics are computed and how to interpret them. Choose them with "
            "`medzoo evaluate --metric NAME` or `--metric NAME@EXTRACTOR`.",
            "## Metrics",
            table(("metric", "description", "unit", "better"), map(meaning, metrics)),
            "Requirements: *min. samples* is the smallest number of images per set; *baseline*: the metric is also "
            "computed between two halves of the real images; *symmetric*: exchanging real and synthetic images gives "
            "the same value.",
            table(("metric", "needs", "extractors", "min. samples", "baseline", "symmetric"), map(demands, metrics)),
            "## Extractors",
            "Extractors compute the feature vectors that metrics compare. Every published classifier can also be used "
            "as an extractor by its id, as in `kid@cnn-busi`.",
            table(("extractor", "description", "outputs", "preprocessing", "weights"), map(extractor_row, extractors)),
        )
    }


def _own(plugins: Plugins, kind: str, name: str) -> bool:
    return plugins.plugin_of(kind, name).distribution == "medzoo"


def meaning(spec: MetricSpec) -> tuple[str, ...]:
    """Return the table cells that describe a metric."""
    return (f"`{spec.name}`", escaped(spec.summary), escaped(spec.unit), spec.better)


def demands(spec: MetricSpec) -> tuple[str, ...]:
    """Return the table cells with a metric's requirements."""
    extractors = ", ".join(map(_extractor, spec.extractors))
    facts = (str(spec.min_samples), "yes" if spec.baseline else "no", "yes" if spec.symmetric else "no")
    return (f"`{spec.name}`", ", ".join(spec.needs), extractors, *facts)


def _extractor(name: str) -> str:
    return "a classifier of the same classes" if name == DOMAIN else f"`{name}`"


def extractor_row(spec: ExtractorSpec) -> tuple[str, ...]:
    """Return the table cells of an extractor."""
    weights = ", ".join(f"`{asset}`" for asset in spec.assets) or "none"
    return (f"`{spec.name}`", escaped(spec.summary), ", ".join(spec.gives), escaped(spec.preprocessing), weights)
