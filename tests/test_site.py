"""The site: it builds without a warning, shows every page, and links between files of the repository stay within it.

Needs the extra `docs`; without it nothing is built here.
"""

import html
import pkgutil
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from doc_pages import ROOT

import dvgen.blocks
import dvgen.interfaces

for needed in ("sphinx", "furo", "myst_parser"):
    if find_spec(needed) is None:
        pytest.skip("pip install -c constraints.txt -e '.[dev,docs]' builds the site", allow_module_level=True)

MADE = {"genindex", "search", "py-modindex"}
"""Pages that Sphinx makes by itself."""
SOURCES = [
    path.relative_to(ROOT / "docs").with_suffix("").as_posix()
    for path in (ROOT / "docs").rglob("*.md")
    if not {"_build", "example_plugin", "example_plugins"} & set(path.relative_to(ROOT / "docs").parts)
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it: warnings are errors, and so is a reference that nothing answers."""
    folder = tmp_path_factory.mktemp("site")
    made = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(folder / "doctrees")]
    done = subprocess.run([*made, str(ROOT / "docs"), str(folder / "html")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


def pages(site: Path) -> dict[str, str]:
    """The text of every page that somebody wrote, by its name without `.html`."""
    found = {path.relative_to(site).with_suffix("").as_posix(): path.read_text() for path in site.rglob("*.html")}
    return {name: text for name, text in found.items() if name not in MADE}


def links(text: str) -> list[tuple[str, str]]:
    """Where a page leads: target and anchor."""
    return [
        (html.unescape(a), html.unescape(b)) for a, b in re.findall(r'<a [^>]*href="([^"#?]*)(?:\?[^"#]*)?#?([^"]*)"', text)
    ]


def test_every_page_of_the_documentation_is_a_page_of_the_site(site: Path):
    assert set(SOURCES) == pages(site).keys()


def test_every_page_has_one_title(site: Path):
    for name, text in pages(site).items():
        assert text.count("<h1>") == 1, name
        assert re.search(r"<title>\s*[^<&\s]", text), name
        assert "&lt;no title&gt;" not in text, name


def test_every_page_is_reached_from_the_first(site: Path):
    texts, seen, ahead = pages(site), set[str](), ["index"]
    while ahead:
        name = ahead.pop()
        if name in seen or name not in texts:
            continue
        seen.add(name)
        # the words of the page, not the bar beside it, which names all pages everywhere
        body = texts[name].split("<article", 1)[1].split("</article>", 1)[0]
        targets = [(site / name).parent / target for target, _ in links(body) if target and "://" not in target]
        ahead += [path.resolve().relative_to(site.resolve()).with_suffix("").as_posix() for path in targets]
    assert texts.keys() - seen == set()


@pytest.mark.parametrize(
    ("page", "shown"),
    [("start", "README.md"), ("changelog", "CHANGELOG.md"), ("contributing", "CONTRIBUTING.md")],
)
def test_files_beside_the_documentation_are_shown_whole(site: Path, page: str, shown: str):
    headings = re.findall(r"^##? (.*)$", re.sub(r"```.*?```", "", (ROOT / shown).read_text(), flags=re.DOTALL), re.MULTILINE)
    text = (site / f"{page}.html").read_text()
    assert len(headings) > 1
    for heading in headings:
        assert re.sub(r"`", "", heading).split(",")[0] in re.sub(r"<[^>]+>", "", text)


def test_no_link_of_the_site_leads_nowhere_or_out_of_it_but_to_the_web(site: Path):
    texts = {path: path.read_text() for path in site.rglob("*.html")}
    ids = {path.resolve(): set(re.findall(r'id="([^"]+)"', text)) for path, text in texts.items()}
    for path, text in texts.items():
        for target, anchor in links(text):
            if target.startswith(("https://", "http://")):
                continue
            place = (path.parent / target if target else path).resolve()
            assert place.exists(), f"{path.name}: {target}"
            assert not anchor or place not in ids or anchor in ids[place], f"{path.name}: {target}#{anchor}"


def test_the_site_asks_nobody_else_for_anything(site: Path):
    """Pages load no script, style, picture or font from elsewhere, nor do pictures."""
    for path in [*site.rglob("*.html"), *site.rglob("*.svg"), *site.rglob("*.css")]:
        found = re.findall(r'(?:src|<link[^>]*href|xlink:href)="https?://[^"]*|url\(["\']?https?://[^)]*', path.read_text())
        assert found == [], path.name


@pytest.mark.parametrize(("package", "page"), [(dvgen.interfaces, "interfaces"), (dvgen.blocks, "blocks")])
def test_every_public_module_has_its_place_in_the_reference(site: Path, package, page: str):
    text = (site / "reference" / f"{page}.html").read_text()
    for module in pkgutil.iter_modules(package.__path__):
        assert f'id="module-{package.__name__}.{module.name}"' in text, module.name


def test_docstrings_are_shown_as_words_and_lists(site: Path):
    """Of a class whose parts are told by name and colon; and no mark-up is left over anywhere in the reference."""
    text = (site / "reference" / "interfaces.html").read_text()
    told = text.split('id="dvgen.interfaces.quantizer.Quantized"')[1].split('id="dvgen.interfaces.quantizer.Quantizer"')[0]
    names = re.findall(r'<li><p><code[^>]*><span class="pre">(\w+)</span></code>:', told)
    assert names == ["vectors", "codes", "losses", "stats", "pending"]
    for name, page in pages(site).items():
        if name.startswith("reference/"):
            words = re.sub(r"<[^>]+>", "", page.split("<article", 1)[1].split("</article>", 1)[0])
            assert re.findall(r"``|:py:|\*\*|\\[*_|]", re.sub(r"\*\*\w+", "", words)) == [], name
