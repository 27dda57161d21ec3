"""How Sphinx builds the site: `nox -s docs`, or `sphinx-build docs build/docs/html`.

XPNN_DOCS_MATHJAX, if set, is where the pages load MathJax from, such as a `file://` address where there is no network.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from docutils import nodes
from myst_nb.core import render
from sphinx.addnodes import pending_xref
from sphinx.util.typing import stringify_annotation

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "xpnn"
author = "the xpnn authors"
project_copyright = "the xpnn authors, MIT licence"
version = release = version_of("xpnn")
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
default_role = "code"  # docstrings have one backtick around code
nitpicky = True

# Pages are Markdown; those that begin with a kernel are run from top to bottom, and a cell that fails fails the build.
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
nb_execution_mode = "force"  # a cache would know the cells, but not that the library has changed
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 120  # seconds of one cell
nb_merge_streams = True

# The reference is written from the docstrings and the signatures' types.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False  # "Two things: of shapes ..." is a sentence, no type
napoleon_attr_annotations = False  # the signature has them
napoleon_use_ivar = True  # an attribute that is annotated and described would otherwise be there twice
python_maximum_signature_line_length = 88
add_module_names = False
nitpick_ignore_regex = [  # the other projects' inventories of names are a download that a build must not need
    (r"py:.*", r"(np|numpy|npt|collections|contextlib|os|pathlib|typing|types|importlib|matplotlib)\..*"),
    (r"py:.*", r"(Any|Callable|Mapping|Sequence|Iterable|NDArray|ArrayLike|Path|PathLike|ABC|KeyError|ValueError)"),
    (r"py:exc", r"NotFittedError"),
]

html_theme = "furo"
html_title = f"xpnn {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"sidebar_hide_name": False}
if "XPNN_DOCS_MATHJAX" in os.environ:
    mathjax_path = os.environ["XPNN_DOCS_MATHJAX"]

latex_engine = "pdflatex"
latex_documents = [("derivation", "xpnn-derivation.tex", "From one neuron to backpropagation", author, "howto")]
latex_elements = {
    "papersize": "a4paper",
    "pointsize": "11pt",
    "fvset": r"\fvset{fontsize=\footnotesize}",  # or lines of code would break
    "preamble": r"\DeclareUnicodeCharacter{2212}{\ensuremath{-}}",
}


def at_public_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Element
) -> nodes.Element | None:
    """Find a type by its name alone.

    A signature's types carry the module that defines them, `xpnn.backends.optimizers.Optimizer`, while the page
    documents `xpnn.backends.Optimizer`. A type of ours that is on no page is not public: it is plain text.
    """
    if node.get("refdomain") != "py":
        return None
    domain, target = env.domains["py"], node["reftarget"]
    name = target.rpartition(".")[2]
    documented = [full for full in domain.objects if full.startswith("xpnn.") and full.rpartition(".")[2] == name]
    if len(documented) == 1:
        return domain.resolve_any_xref(env, node["refdoc"], app.builder, documented[0], node, contnode)[0][1]
    ours = [module for path, module in sys.modules.items() if path.startswith("xpnn.")]
    is_ours = target.startswith("xpnn.") or any(hasattr(module, target) for module in ours)
    return contnode if is_ours else None


def merge_streams(outputs: list[Any]) -> list[Any]:
    """Join the parts of what a cell prints; myst-nb would end a line wherever the kernel happened to flush."""
    merged: list[Any] = []
    for output in outputs:
        before = merged[-1] if merged else {}
        if output["output_type"] == before.get("output_type") == "stream" and output["name"] == before["name"]:
            before["text"] += output["text"]
        else:
            merged.append(output)
    return merged


def unlink_folders(_app: Sphinx, doctree: nodes.document) -> None:
    """Make plain text of links to the source's folders; a link to a file is a download."""
    for node in [*doctree.findall(pending_xref)]:
        folder = Path(doctree["source"]).parent / node["reftarget"]
        if node.get("reftype") == "myst" and folder.is_dir():
            node.replace_self(node.children)


def skip_alias(_app: Sphinx, _what: str, _name: str, obj: object, _skip: bool, _options: object) -> bool | None:
    """Leave out the fields of a named tuple, "Alias for field number 0": its docstring describes them."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def keep_sentence(_app: Sphinx, what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Keep napoleon from taking a property's "Products of a row: three a layer" as a type and its description."""
    if what == "property":
        lines[:0] = ["..", ""]  # an empty comment, on which it finds no colon


def keep_underscores(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Keep scikit-learn's names from being links: `classes_` is one in reStructuredText."""
    lines[:] = [re.sub(r"(?<=[a-z0-9])_(?=[\s,:;.)]|$)", r"\_", line) for line in lines]


def name_array_types(
    _app: Sphinx, _what: str, _name: str, _obj: object, _options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Give NumPy's two array types their names back, which autodoc has spelt out."""

    def named(text: str | None) -> str | None:
        if text is None:
            return None
        text = text.replace(stringify_annotation(npt.ArrayLike, "smart"), "~numpy.typing.ArrayLike")
        return re.sub(r"~numpy\.ndarray\[tuple\[.*?\], ~numpy\.dtype\[(.*?)\]\]", r"~numpy.typing.NDArray[\1]", text)

    return named(signature), named(returns)


def setup(app: Sphinx) -> dict[str, Any]:
    """Take up the functions above."""
    render.coalesce_streams = merge_streams
    app.connect("missing-reference", at_public_name)
    app.connect("doctree-read", unlink_folders)
    app.connect("autodoc-skip-member", skip_alias)
    app.connect("autodoc-process-signature", name_array_types)
    app.connect("autodoc-process-docstring", keep_sentence, priority=400)  # before napoleon's 500
    app.connect("autodoc-process-docstring", keep_underscores, priority=600)
    return {"parallel_read_safe": True}
