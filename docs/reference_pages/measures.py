"""The metrics and extractors that come with medzoo, as their specs state them."""

from __future__ import annotations

from medzoo.plugins.lookup import Plugins, load_plugins
from medzoo.specs import DOMAIN, ExtractorSpec, MetricSpec
from reference_pages.markdown import escaped, page, table


def measure_pages() -> dict[str, str]:
    """One page of both."""
    plugins = load_plugins()
    metrics = [spec for name, spec in sorted(plugins.metrics.items()) if _own(plugins, "metric", name)]
    extractors = [spec for name, spec in sorted(plugins.extractors.items()) if _own(plugins, "extractor", name)]
    return {
        "metrics.md": page(
            "# Metrics and extractors",
            "[Measuring images](../metrics.md) says how each number is made and what it is worth. "
            "`medzoo evaluate --metric NAME` or `--metric NAME@EXTRACTOR` asks for one.",
            "## Metrics",
            table(("metric", "what it is", "unit", "better"), map(meaning, metrics)),
            "What each asks of the images. *Least* is the smallest number of images a side; *floor*: the same number "
            "between two halves of the real images stands beside it; *symmetric*: exchanging real and synthetic images "
            "gives the same number.",
            table(("metric", "needs", "measured with", "min. samples", "baseline", "symmetric"), map(demands, metrics)),
            "## Extractors",
            "They turn images into the vectors that metrics compare. Every published classifier is one as well, by "
            "its id, as in `kid@cnn-busi`.",
            table(("extractor", "what it is", "gives", "preprocessing", "weights"), map(extractor_row, extractors)),
        )
    }


def _own(plugins: Plugins, kind: str, name: str) -> bool:
    return plugins.plugin_of(kind, name).distribution == "medzoo"


def meaning(spec: MetricSpec) -> tuple[str, ...]:
    """What a metric is, as cells."""
    return (f"`{spec.name}`", escaped(spec.summary), escaped(spec.unit), spec.better)


def demands(spec: MetricSpec) -> tuple[str, ...]:
    """What a metric needs, as cells."""
    extractors = ", ".join(map(_extractor, spec.extractors))
    facts = (str(spec.min_samples), "yes" if spec.baseline else "no", "yes" if spec.symmetric else "no")
    return (f"`{spec.name}`", ", ".join(spec.needs), extractors, *facts)


def _extractor(name: str) -> str:
    return "a classifier of the domain" if name == DOMAIN else f"`{name}`"


def extractor_row(spec: ExtractorSpec) -> tuple[str, ...]:
    """An extractor's facts as cells."""
    weights = ", ".join(f"`{asset}`" for asset in spec.assets) or "none"
    return (f"`{spec.name}`", escaped(spec.summary), ", ".join(spec.gives), escaped(spec.preprocessing), weights)
