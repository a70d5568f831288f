"""Configure Sphinx for `make docs`. The build needs no network."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

import medzoo

sys.path.insert(0, str(Path(__file__).parent))

project = "medzoo"
version = release = medzoo.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
nitpicky = True
# Types of libraries that are not linked, since the build needs no network.
nitpick_ignore_regex = [
    ("py:class", r"Tensor|Path|Traversable|np\.ndarray|(collections\.abc|numpy|pathlib|torch)\..+"),
    # Internal types in signatures, and a type argument that is named in quotes.
    ("py:class", r"(medzoo\.runs\.progress\.)?Progress|(medzoo\.publishing\.card\.)?About"),
    ("py:class", r"ExperimentPlan|Job|Classifier|medzoo\.(plugins\.lookup\.Plugins|data\.dataset\.Dataset)"),
    ("py:class", r"medzoo\.(experiment\.statistics\.Comparison|tuning\.results\.TrialResult)"),
    ("py:(obj|class)", r"medzoo\.(specs\.M_co|toolkit\.diffusion\.process\.S)"),
]

highlight_language = "text"
html_theme = "furo"
html_title = f"medzoo {release}"
html_static_path = ["_static"]
html_css_files = ["medzoo.css"]
html_copy_source = False
html_show_copyright = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# Docstrings are plain text with code between backticks.
default_role = "literal"
smartquotes = False  # would turn the hyphens of --set into a dash
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
autodoc_preserve_defaults = True
maximum_signature_line_length = 110


def write_reference(app: Sphinx) -> None:
    """Write the generated pages to docs/reference."""
    from reference_pages import write

    write(app.srcdir / "reference")


def drop_inherited(app: Sphinx, what: str, name: str, of: object, options: object, lines: list[str]) -> None:
    """Hide the docstring that an `__init__` inherits from a base class."""
    if name.endswith(".__init__") and not of.__doc__:
        lines.clear()


def setup(app: Sphinx) -> None:
    """Write the reference before Sphinx reads the pages."""
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-process-docstring", drop_inherited)
