"""The documentation site: `make docs` builds it into site/, from the Markdown of the repository and the docstrings.

The source directory is the repository, so that pages link to each other and to files as they do there.
"""

from __future__ import annotations

from docutils import nodes
from pygments.lexers.special import TextLexer
from sphinx.ext.napoleon.docstring import GoogleDocstring

import sealwire

project = "Sealwire"
author = "The Sealwire contributors"
version = release = sealwire.__version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_external_toc",
]
external_toc_path = "docs/_toc.yml"
include_patterns = ["docs/**.md", "*.md", "certs/*.md", "examples/*.md", "deploy/**.md"]
exclude_patterns = [".*", "site", "src", "tests", "benchmarks", "**/__pycache__"]

myst_heading_anchors = 4
myst_links_external_new_tab = False
# What is pasted from these pages must be typed as it is.
smartquotes = False

autodoc_default_options = {"members": True, "inherited-members": True}
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

# A property's docstring is a sentence. Napoleon would take what is before a colon in it for a type.
GoogleDocstring._parse_attribute_docstring = GoogleDocstring._consume_to_end

html_theme = "furo"
html_title = f"Sealwire {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"top_of_page_buttons": []}
pygments_style = "friendly"


def skip_member(_app, _what, _name, member, skip, _options):
    """Leave out what a class has of a base class of another package, such as socketserver's."""
    module = getattr(getattr(member, "fget", member), "__module__", None) or "sealwire"
    return skip or module.split(".")[0] != "sealwire"


def typeset_dashes(_app, tree, _name):
    """Make a dash of the two hyphens that Sphinx writes between a parameter and its text."""
    for text in list(tree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" \N{EN DASH} "))


def setup(app):
    app.connect("doctree-resolved", typeset_dashes)
    for language in ("haproxy", "conf"):  # which Pygments does not know
        app.add_lexer(language, TextLexer)
    app.connect("autodoc-skip-member", skip_member)
