"""The pages themselves: links, the two commands of the README, the layers that are drawn, files that are named."""

import re
import tomllib
from pathlib import Path

import pytest
from doc_pages import PAGES, ROOT, blocks, marked, named, read, section

PROJECT = tomllib.loads(read("pyproject.toml"))
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s#]*)(?:#([^)\s]*))?\)")


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as Git hosts make them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(page: Path):
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)  # Python has ](...) as well
    for target, anchor in LINK.findall(prose):
        if "://" in target:
            continue
        place = page.parent / target if target else page
        assert place.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(place.read_text()), f"{page.name}: {target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_picture_says_in_words_what_it_shows(page: Path):
    assert all(len(words) > 10 for words in re.findall(r"!\[([^\]]*)\]", page.read_text()))


def test_the_two_commands_stand_in_the_readme_and_name_what_there_is():
    begin = "python3.11 -m venv .venv && . .venv/bin/activate && pip install -c constraints.txt -e "
    assert marked("README.md", "command: compare") == f"{begin}. && dvgen compare --prior pixelsnail,gpt\n"
    assert marked("README.md", "command: tests") == f"{begin}'.[dev]' && make check\n"
    assert (ROOT / "constraints.txt").is_file()
    assert "dev" in PROJECT["project"]["optional-dependencies"]
    assert re.search(r"^check:", read("Makefile"), re.MULTILINE)


def test_the_readme_pins_torch_and_torchvision_as_the_constraints_do():
    pins = set(re.findall(r"\b(?:torch|torchvision)==[\w.]+", read("README.md")))
    assert len(pins) == 2
    assert pins <= set(read("constraints.txt").splitlines())


def test_the_layers_that_are_drawn_are_those_that_are_checked():
    contract = next(c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    there = {path.stem for path in (ROOT / "dvgen").iterdir()}
    checked = [{name.strip("() ") for name in layer.split("|")} & there - {"__main__"} for layer in contract["layers"]]
    page = ROOT / "docs" / "architecture.md"
    drawn = next(block.text for block in blocks(page) if block.text in section(page.read_text(), "Layers"))
    assert [set(re.split(r"  +", line)[0].split(" | ")) for line in drawn.splitlines()] == [layer for layer in checked if layer]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_source_file_that_is_named_is_there(page: Path):
    sources = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if ".venv" not in path.parts]
    for name in (name for name in named(page.read_text()) if re.fullmatch(r"[a-z0-9_/]+\.py", name)):
        assert any(f"/{source}".endswith(f"/{name}") for source in sources), f"{page.name}: {name}"
