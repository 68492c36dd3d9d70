"""Sphinx configuration; paper pages are generated from the papers and their reference results."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import paper_pages

import claimwise

project = "Claimwise"
author = "The Claimwise authors"
copyright = "2026, the Claimwise authors"
release = version = claimwise.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Claimwise"
html_static_path: list[str] = []
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shape", "Differences from the paper", "Source"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
suppress_warnings = ["myst.header", "myst.xref_missing", "ref.python"]  # axis names in shapes read as references

paper_pages.write(Path(__file__).parent / "papers", Path(__file__).parents[1] / "results")
