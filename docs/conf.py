"""How Sphinx builds these pages: `make docs`."""

import importlib.metadata
import inspect
import sys
from pathlib import Path

from docutils.nodes import document, paragraph
from sphinx.addnodes import desc_annotation
from sphinx.application import Sphinx

from dvgen import errors

sys.path.insert(0, str(Path(__file__).parent))
from docstrings import as_restructured_text

project = "dvgen"
author = "the dvgen authors"
version = release = importlib.metadata.version("dvgen")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "example_plugin", "example_plugins"]
nitpicky = True
OTHERS = "abc|attr|collections|hypothesis|numpy|pathlib|pluggy|torch|types|typing"
"""Packages whose documentation lies elsewhere: their types are named and not linked, for nothing is fetched while building."""

nitpick_ignore_regex = [("py:.*", rf"({OTHERS})(\..+)?|Tensor|dvgen\.contracts\.pytest_laws\.TestClass")]

myst_heading_anchors = 4

default_role = "code"
add_module_names = False
autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "dvgen"
html_show_sphinx = False
html_copy_source = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

SHOWN = {
    "start": "README.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "results": "benchmarks/results/README.md",
}
"""Pages of the site that show a file of the repository, which is read best where it lies."""

EXAMPLES = {
    "example_plugin": "first_plugin",
    "example_plugins/dvgen-cvq": "tutorial_quantizer",
    "example_plugins/dvgen-mingru": "tutorial_prior",
}
"""Folders of plugins, and the pages that show them whole."""

ROOT = Path(__file__).parents[1]


def as_a_page(app: Sphinx, name: str, source: list[str]) -> None:
    """The text of a page: links between files of the repository lead to the pages that show them."""
    if name in SHOWN:
        source[0] = (ROOT / SHOWN[name]).read_text(encoding="utf-8").replace("](docs/", "](").replace("[MIT](LICENSE)", "MIT")
    for page, shown in SHOWN.items():
        source[0] = source[0].replace(f"](../{shown}", f"]({page}.md").replace(f"]({shown}", f"]({page}.md")
    for place, page in EXAMPLES.items():
        source[0] = source[0].replace(f"]({place}/README.md", f"]({page}.md")
    source[0] = source[0].replace("](adversarial_training.png", "](../benchmarks/results/adversarial_training.png")


LONGEST_VALUE = 80
ERRORS = frozenset(name for name, value in vars(errors).items() if inspect.isclass(value))


def readable(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """A docstring as Sphinx reads it."""
    lines[:] = as_restructured_text("\n".join(lines), ERRORS).splitlines()


def plain_signature(
    app: Sphinx, what: str, name: str, thing: object, options: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None] | None:
    """No signature for a class that takes what torch.nn.Module takes, which says nothing; three dots for made defaults."""
    if what != "class" or signature is None:
        return None
    return "" if signature.startswith("(*args: ") else signature.replace("= NOTHING", "= ..."), returned


def left_out(app: Sphinx, what: str, name: str, thing: object, skip: bool, options: object) -> bool | None:
    """Fields of named tuples, which their class's docstring tells of, are not listed again."""
    return True if type(thing).__name__ == "_tuplegetter" else None


def shortened(app: Sphinx, page: document) -> None:
    """Left out: values of constants that would fill lines (the docstring tells of them), and the base that every class has."""
    for shown in list(page.findall(desc_annotation)):
        if shown.astext().startswith(" = ") and len(shown.astext()) > LONGEST_VALUE:
            shown.parent.remove(shown)
    for line in [line for line in page.findall(paragraph) if line.astext() == "Bases: object"]:
        line.parent.remove(line)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", as_a_page)
    app.connect("doctree-read", shortened)
    app.connect("autodoc-process-docstring", readable)
    app.connect("autodoc-process-signature", plain_signature)
    app.connect("autodoc-skip-member", left_out)
