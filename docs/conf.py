"""How Sphinx builds medzoo's documentation: `make docs`. Nothing here reads the network."""

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
# Types of libraries whose documentation is not linked: a build needs no network.
nitpick_ignore_regex = [("py:class", r"Tensor|Path|Traversable|np\.ndarray|collections\.abc\.\w+")]

highlight_language = "text"
html_theme = "furo"
html_title = f"medzoo {release}"
html_static_path = ["_static"]
html_css_files = ["medzoo.css"]
html_copy_source = False
html_show_copyright = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# Docstrings are plain text in which a word between backticks is code.
default_role = "literal"
smartquotes = False  # they would make one dash of --set
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"


def write_reference(app: Sphinx) -> None:
    """Nothing; docs/reference holds the pages that are written from the code."""
    from reference_pages import write

    write(app.srcdir / "reference")


def setup(app: Sphinx) -> None:
    """Nothing; the reference is written before pages are read."""
    app.connect("builder-inited", write_reference)
