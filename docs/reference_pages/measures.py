"""The metrics and extractors that come with medzoo, as their specs state them."""

from __future__ import annotations

from medzoo.plugins import Plugins, load_plugins
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
            "[Measuring images](../metrics.md) says how each number is made and what it is worth.",
            "## Metrics",
            "`medzoo evaluate --metric NAME` or `NAME@EXTRACTOR`. `least` is the smallest number of images a side.",
            *(metric_entry(spec) for spec in metrics),
            "## Extractors",
            "They turn images into the vectors that metrics compare. Every published classifier is one as well, by "
            "its id, as in `kid@cnn-busi`.",
            table(("extractor", "what it is", "gives", "preprocessing", "weights"), map(extractor_row, extractors)),
        )
    }


def _own(plugins: Plugins, kind: str, name: str) -> bool:
    return plugins.row_of(kind, name).distribution == "medzoo"


def metric_entry(spec: MetricSpec) -> str:
    """A metric's facts under its name."""
    facts = {
        "unit": escaped(spec.unit) or "none",
        "better": spec.better,
        "needs": ", ".join(needs(spec)),
        "measured with": ", ".join(map(_extractor, spec.extractors)) or "no extractor",
        "least": str(spec.least),
        "floor beside it": "yes" if spec.floor else "no",
        "symmetric": "yes" if spec.symmetric else "no",
    }
    return page(
        f"### {spec.name}", escaped(spec.summary).capitalize() + ".", table(tuple(facts), [tuple(facts.values())])
    )


def needs(spec: MetricSpec) -> list[str]:
    """What a metric asks of the images, in words."""
    told = [
        ("pixels", spec.needs_pixels),
        ("labels", spec.needs_labels),
        (f"layers {', '.join(spec.needs_features)}", spec.needs_features),
        ("perceptual distance", spec.needs_distance),
        (f"layers {', '.join(spec.needs_train)} of training images", spec.needs_train),
    ]
    return [words for words, needed in told if needed]


def _extractor(name: str) -> str:
    return "a classifier of the domain" if name == DOMAIN else f"`{name}`"


def extractor_row(spec: ExtractorSpec) -> tuple[str, ...]:
    """An extractor's facts as cells."""
    gives = [*spec.layers, *(["perceptual distance"] if spec.perceptual else [])]
    weights = ", ".join(f"`{asset}`" for asset in spec.assets) or "none"
    return (f"`{spec.name}`", escaped(spec.summary), ", ".join(gives), escaped(spec.preprocessing), weights)
