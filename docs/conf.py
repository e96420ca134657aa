"""The documentation site: ``sphinx-build -W --keep-going -b html docs build/site``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from site_pages import write_pages
from sphinx.application import Sphinx

from routing_env import __version__

project = "routing-env"
author = "The routing-env contributors"
copyright = "2026, the routing-env contributors"  # noqa: A001
release = version = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["images"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
nitpicky = False

nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_mock_imports = ["benchmarl", "torchrl", "tensordict"]
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"routing-env {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
copybutton_prompt_text = "$ "

write_pages(Path(__file__).parent / "generated")


def setup(app: Sphinx) -> None:
    """Mend what GitHub reads in one way and Sphinx in another."""
    app.connect("autodoc-process-docstring", _escape_shapes)
    app.connect("source-read", _link_within_the_site)


def _escape_shapes(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """The star of shapes such as ``[B, *input shape]`` is not emphasis."""
    lines[:] = [re.sub(r"(?<=, )\*(?=[a-z_])|(?<=\[)\*(?=[a-z_])", r"\\*", line) for line in lines]


def _link_within_the_site(app: Sphinx, docname: str, content: list[str]) -> None:
    """The rules for submissions lie outside docs."""
    up = "../" * docname.count("/")
    content[0] = content[0].replace(f"({up}../results/README.md)", f"({up}generated/results.md)")
