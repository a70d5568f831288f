"""Generate one page per generator and classifier with all settings and presets."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping
from typing import Any

from medzoo import config
from medzoo.config import Setting
from medzoo.experiment.config import ExperimentSettings
from medzoo.hub.registry import TRAIN_COMMANDS
from medzoo.plugins.lookup import load_plugins
from medzoo.specs import ClassifierSpec, GeneratorSpec
from medzoo.tuning.config import TuningSettings
from reference_pages.markdown import escaped, page, table, toctree


def own_models() -> list[tuple[str, GeneratorSpec | ClassifierSpec]]:
    """Return medzoo's own generators and classifiers as ("generator", spec)."""
    plugins = load_plugins()
    offered: dict[str, Mapping[str, GeneratorSpec | ClassifierSpec]] = {
        "generator": plugins.generators,
        "classifier": plugins.classifiers,
    }
    return [
        (kind, spec)
        for kind, specs in offered.items()
        for name, spec in sorted(specs.items())
        if plugins.plugin_of(kind, name).distribution == "medzoo"
    ]


def settings_pages() -> dict[str, str]:
    """Return a page for each generator, each classifier, experiments and tuning, and the index."""
    models = own_models()
    rows = [(f"[`{spec.name}`]({spec.name}.md)", kind, escaped(spec.summary)) for kind, spec in models]
    index = page(
        "# Settings",
        "Settings are layered: the default, then the preset (`--preset`), then a TOML file (`--config`), then "
        "`--set key=value`; `run.json` records where each value came from. Values of `--set` are TOML, as in "
        "`--set network.block_out_channels=[32,64]`; strings need no quotes. An unknown key or value is an error that "
        "suggests the closest match. `medzoo show NAME` lists the settings and presets of any installed plugin.",
        table(
            ("settings of", "kind", "description"),
            [
                *rows,
                ("[experiments](experiments.md)", "TOML file", "arms, classifiers, folds and seeds"),
                ("[tuning](tuning.md)", "TOML file", "what is searched, folds and seeds"),
            ],
        ),
        toctree([*(spec.name for _, spec in models), "experiments", "tuning"]),
    )
    return {
        "settings/index.md": index,
        "settings/experiments.md": experiment_page(),
        "settings/tuning.md": tuning_page(),
        **{f"settings/{spec.name}.md": model_page(kind, spec) for kind, spec in models},
    }


def experiment_page() -> str:
    """Return the page on an experiment's settings; its presets are described in docs/experiments.md."""
    values = config.flatten(ExperimentSettings())
    return page(
        "# experiments",
        "The keys of an experiment's TOML file; [Experiments](../../experiments.md) explains how they work together.",
        *tables(ExperimentSettings, values),
    )


def tuning_page() -> str:
    """Return the page on the settings of a tuning."""
    values = config.flatten(TuningSettings())
    return page(
        "# tuning",
        "The settings of `medzoo tune`, for `--set` or a file (`--config`); [Tuning](../../tuning.md) explains them.",
        *tables(TuningSettings, values),
    )


def model_page(kind: str, spec: GeneratorSpec | ClassifierSpec) -> str:
    """Return the page with the settings and presets of one generator or classifier."""
    command = (
        f"`{TRAIN_COMMANDS[kind]} {spec.name}`"
        if getattr(spec, "trainable", True)
        else f"`--gen {spec.name}`; it is not trained"
    )
    values = config.resolve(spec.config, presets=spec.presets).flat()
    return page(
        f"# {spec.name}",
        f"A {kind}: {escaped(spec.summary)}. Use it as {command}. The defaults are those of the preset `default`.",
        *tables(spec.config, values),
        "## Presets",
        *presets(spec),
    )


def tables(schema: type[Any], values: dict[str, Any]) -> list[str]:
    """Return a table of settings for each group, under the group's name and description."""
    blocks = []
    known = sorted(config.settings_of(schema), key=lambda setting: "." in setting.key)  # top-level first
    for prefix, group in itertools.groupby(known, key=lambda setting: setting.key.rpartition(".")[0]):
        found = list(group)
        about = inspect.cleandoc(found[0].group.__doc__ or "").partition("\n\n")[0]
        rows = [(f"`{each.key}`", shown(values[each.key]), takes(each), escaped(each.help)) for each in found]
        blocks += [f"## {prefix or 'Settings'}", escaped(about) if prefix else ""]
        blocks.append(table(("setting", "default", "values", "description"), rows))
    return blocks


def presets(spec: GeneratorSpec | ClassifierSpec) -> list[str]:
    """Return each preset's description from its file, and a table of the settings in which presets differ."""
    names = sorted(config.preset_names(spec.presets), key=lambda name: (name != "default", name))
    flat = {name: config.resolve(spec.config, presets=spec.presets, preset=name).flat() for name in names}
    differing = [key for key in flat["default"] if len({repr(values[key]) for values in flat.values()}) > 1]
    rows = [(f"`{key}`", *(shown(flat[name][key]) for name in names)) for key in differing]
    return [
        "\n".join(
            f"- `{name}`: {escaped(config.preset_about(spec.presets, name)) or 'the defaults.'}" for name in names
        ),
        table(("setting", *(f"`{name}`" for name in names)), rows) if rows else "All presets have the same values.",
    ]


def takes(setting: Setting) -> str:
    """Return the values that a setting takes, choices as code."""
    return ", ".join(f"`{choice}`" for choice in setting.choices) if setting.choices else setting.takes


def shown(value: Any) -> str:
    """Return a setting's value as `--set` takes it, as code."""
    return f"`{config.shown(value)}`"
