"""What importing a plugin and asking it loads, seen from a fresh interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

from medzoo.plugins.lookup import load_plugins
from medzoo.specs import ClassifierSpec, GeneratorSpec, MetricSpec
from medzoo.testing.contract import expect

_HEAVY = ("torch", "numpy", "scipy", "sklearn", "PIL", "torchvision", "diffusers", "timm", "transformers", "matplotlib")
_PROGRAM = """
import sys
from medzoo.plugins.discovery import PluginInfo, import_entry_point, load_plugin
name, module, *heavy = sys.argv[1:]
info = PluginInfo(name=name, distribution="", version="", module=module)
info = load_plugin(info, lambda: import_entry_point(module)).info
if info.state != "ok":
    sys.exit(info.error)
sys.stdout.write(" ".join(name for name in heavy if name in sys.modules))
"""
_PATIENCE = 120.0


def light_registration(kind: str, spec: GeneratorSpec | ClassifierSpec | MetricSpec) -> str | None:
    """Check the import in a fresh process, in one line; None for a spec that no installed plugin registers."""
    plugins = load_plugins()
    offered = {"generator": plugins.generators, "classifier": plugins.classifiers, "metric": plugins.metrics}[kind]
    if offered.get(spec.name) != spec:
        return None
    row = plugins.plugin_of(kind, spec.name)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, row.name, row.module, *_HEAVY],
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    output = done.stderr.strip().splitlines()
    expect(done.returncode == 0, f"in a fresh interpreter, {row.module} is broken: {output[-1] if output else ''}")
    loaded = ", ".join(done.stdout.split())
    expect(not loaded, f"expected {row.module} to load nothing heavy, it loads {loaded}: import that in `build`")
    return f"{row.module} loads neither torch nor any other large library"
