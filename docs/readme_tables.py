"""Generate README.md's tables and plugin example from the code: `make readme`."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from medzoo.cli.app import VERBS, app
from medzoo.hub.registry import CLASSIFIER, GENERATOR, ModelEntry, load_registry
from medzoo.plugins.lookup import load_plugins
from medzoo.specs import DOMAIN

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
EXAMPLE = ROOT / "tests" / "example_plugin"
MOST_CLASSES = 8  # that a table names one by one


def verbs() -> str:
    """Return a table of the commands, each with the first line of its help."""
    group = typer.main.get_command(app)
    context = group.make_context("medzoo", [], resilient_parsing=True)
    rows = []
    for name in VERBS:
        command = group.get_command(context, name)
        inner = ", ".join(f"`{inner}`" for inner in getattr(command, "commands", {}))
        rows.append(f"| `medzoo {name}`{f' ({inner})' if inner else ''} | {command.help.strip().splitlines()[0]} |")
    return "\n".join(["| command | description |", "|---|---|", *rows])


def generators() -> str:
    """Return a table of the first-party generators."""
    plugins = load_plugins()
    rows = [
        f"| `{name}` | {spec.summary} | {'yes' if spec.trainable else 'no'} | {'yes' if spec.multi_label else 'no'} |"
        for name, spec in sorted(plugins.generators.items())
        if plugins.plugin_of("generator", name).distribution == "medzoo"
    ]
    return "\n".join(["| generator | description | trainable | multi-label |", "|---|---|---|---|", *rows])


def classifiers() -> str:
    """Return a table of the first-party classifiers."""
    plugins = load_plugins()
    rows = [
        f"| `{name}` | {spec.summary} | {'yes' if spec.multi_label else 'no'} |"
        for name, spec in sorted(plugins.classifiers.items())
        if plugins.plugin_of("classifier", name).distribution == "medzoo"
    ]
    return "\n".join(["| classifier | description | multi-label |", "|---|---|---|", *rows])


def metrics() -> str:
    """Return a table of the first-party metrics with their extractors."""
    plugins = load_plugins()
    rows = [
        f"| `{name}` | {spec.summary} | {spec.better} | {', '.join(map(_extractor, spec.extractors))} |"
        for name, spec in sorted(plugins.metrics.items())
        if plugins.plugin_of("metric", name).distribution == "medzoo"
    ]
    return "\n".join(["| metric | description | better | extractors |", "|---|---|---|---|", *rows])


def _extractor(name: str) -> str:
    return "a classifier of the same classes" if name == DOMAIN else f"`{name}`"


def models() -> str:
    """Return a table of the bundled generators."""
    rows = [
        f"{_facts(row)} | {row.parameters / 1e6:.1f} M | {row.bytes / 1e6:.1f} | {row.license} |"
        for row in _bundled(GENERATOR)
    ]
    head = "| model | generator | trained on | classes | pixels | parameters | MB | license |"
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *rows])


def classifier_models() -> str:
    """Return a table of the bundled classifiers, with the scores on held-out images from their cards."""
    rows = [
        f"{_facts(row)} | {_score(row)} | {row.parameters / 1e6:.2f} M | {row.bytes / 1e6:.1f} | {row.license} |"
        for row in _bundled(CLASSIFIER)
    ]
    columns = "model | classifier | trained on | classes | pixels | held-out balanced accuracy"
    head = f"| {columns} | parameters | MB | license |"
    return "\n".join([head, "|---|---|---|---|---|---|---|---|---|", *rows])


def _bundled(kind: str) -> list[ModelEntry]:
    return [row for row in load_registry().entries if row.kind == kind and (ROOT / "cards" / row.id).is_dir()]


def _facts(row: ModelEntry) -> str:
    card = f"[`{row.id}`](cards/{row.id}/README.md)"
    classes = ", ".join(row.classes)
    if len(row.classes) > MOST_CLASSES:
        classes = f"{row.classes[0]}, {row.classes[1]}, ... {row.classes[-1]} ({len(row.classes)})"
    return f"| {card} | {row.plugin} | {row.dataset} | {classes} | {row.size}"


def _score(row: ModelEntry) -> str:
    notes = json.loads((ROOT / "cards" / row.id / "config.json").read_text("utf-8"))["notes"]
    return f"{notes['held_out']['balanced_accuracy']:.2f} on {notes['held_out']['images']} images"


def example() -> str:
    """Return the files of the example plugin as Markdown."""
    parts = []
    for path in (EXAMPLE / "pyproject.toml", *sorted((EXAMPLE / "medzoo_average").glob("*.py"))):
        language = "toml" if path.suffix == ".toml" else "python"
        parts.append(f"`{path.relative_to(EXAMPLE)}`\n\n```{language}\n{path.read_text('utf-8').strip()}\n```")
    return "\n\n".join(parts)


def render(text: str) -> str:
    """Return `text` with the part between each pair of markers replaced."""
    parts = {
        "verbs": verbs,
        "generators": generators,
        "classifiers": classifiers,
        "metrics": metrics,
        "models": models,
        "classifier-models": classifier_models,
        "example": example,
    }
    for name, make in parts.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        assert start in text, f"README.md has no {name} markers"
        head, _, rest = text.partition(start)
        text = f"{head}{start}{make()}\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    README.write_text(render(README.read_text("utf-8")), "utf-8")
