"""Every fenced block of the documentation is accounted for: by language and marker it is known which test runs or reads it.

A block that nobody runs or reads fails here, and so does one that the tests would overlook. What each test does with a block:

* `bash`: every `dvgen` command is parsed and what it names looked up, and quick ones are run (test_docs_commands.py)
* `file: PATH`: the page's test writes it out or compares it with the file, runs its tests and checks the plugin
* other `python`: run by itself, by the page's test or here; `diff`, and what is marked `step`: held to the final file
* `toml`: read as an experiment, or as part of a pyproject.toml
* `text`: what is printed or drawn, and no command
* any other block with a marker: the page's test asks for that marker
"""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from doc_pages import PAGES, ROOT, Block, blocks, read
from packaging.requirements import Requirement

import dvgen
from dvgen.config import structure
from dvgen.recipes import Origin

TESTS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py")}
FENCE = re.compile(r"^[ \t>]*(?:`{3,}|~{3,}).*$", re.MULTILINE)
DIRECTIVE = re.compile(r"^```\{[a-z-]+\}[^\n]*\n.*?^```$", re.MULTILINE | re.DOTALL)
"""What Sphinx reads when it builds the site, which test_site.py does."""
EXAMPLES = {path.name for path in (ROOT / "docs" / "example_plugins").iterdir()}
TUTORIALS = "tutorial_pages"
"""What the tests of a tutorial import that builds its plugin from the page."""


def read_by(page: Path) -> str:
    """The text of all tests that read a page."""
    found = [text for name, text in TESTS.items() if re.search(rf"[\"'/]{re.escape(page.name)}[\"']", text)]
    return "\n".join(found)


def files_are_compared(block: Block) -> bool:
    """Whether the page's test takes all blocks of files from the page."""
    tests = read_by(block.page)
    return "shown_files(" in tests or TUTORIALS in tests


def python_is_run(block: Block) -> bool:
    """Whether it is run, by itself: by the page's test, which supplies its plugin, or here; one block is of test_parts.py."""
    if block.marker == "example: a composed component":
        return f'exec(marked("docs/{block.page.name}", "{block.marker}")' in TESTS["test_parts.py"]
    return block.marker == "" and ("run_python(" in read_by(block.page) or block in RUN_HERE)


RUN_HERE = [
    block
    for page in PAGES
    for block in blocks(page)
    if (block.language, block.marker) == ("python", "") and "run_python(" not in read_by(page)
]


@pytest.mark.parametrize("block", RUN_HERE, ids=lambda block: block.page.name)
def test_python_that_needs_no_plugin_runs(block: Block):
    exec(compile(block.text, str(block.page), "exec"), {"__name__": "documentation"})


def step_is_held(block: Block) -> bool:
    """Whether the page's test finds the steps in the final file."""
    return block.marker == "step" and '"step"' in read_by(block.page)


def is_experiment(block: Block) -> bool:
    """Whether a table is read: by the test that names it, or here as part of a recipe or as the dependencies of a plugin."""
    if block.marker.startswith("example: "):
        return any(f'marked("docs/{block.page.name}", "{block.marker}")' in text for text in TESTS.values())
    table = tomllib.loads(block.text)
    if block.marker == "an extract":  # of a recipe, which needs more tables than are shown
        origin = structure({"source": "the page", "shape": [3, 32, 32]} | table.get("recipe", {}), Origin)
        return table.keys() == {"recipe"} and origin is not None
    return block.marker == "" and table.keys() == {"dependencies"}


def is_shell(block: Block) -> bool:
    """Whether its commands are read: with what is installed, an example, or what a tutorial makes; or are at fault."""
    kind, _, name = block.marker.partition(": ")
    known: dict[str, Callable[[], bool]] = {
        "": lambda: True,
        "command": lambda: f'marked("{block.page.name}", "{block.marker}")' in TESTS["test_docs_pages.py"],
        "example": lambda: name in EXAMPLES,
        "tutorial": lambda: TUTORIALS in read_by(block.page),
        "fault": lambda: [b.marker for b in blocks(block.page)].count(f"answer: {name}") == 1,
    }
    return kind in known and known[kind]() and all(map(is_known_command, parts(block.text)))


def parts(text: str) -> list[str]:
    """The commands of a shell text."""
    joined = text.replace("\\\n", " ")
    return [part.strip() for line in joined.splitlines() for part in line.split("&&") if part.strip()]


SHELL = (
    r"python3\.11 -m venv \.venv",
    r"\. \.venv/bin/activate",
    r"pip install (--index-url https://\S+ )?(--no-deps )?(-c constraints\.txt )?((-e )?[\w.'/=\[\],-]+ ?)+",
    r"make [a-z-]+",
    r"pytest( -m \"not slow\")?|ruff check \.|ruff format --check \.|mypy",
    r"([A-Z_]+=\S+ )*dvgen( .*)?",
    r"#.*",
    r"cd [\w./-]+",
)
"""What stands in blocks of commands. test_docs_commands.py reads `dvgen`; the two commands of the README are what CI runs, and
the tests of an example run its own."""


def is_known_command(command: str) -> bool:
    made = re.fullmatch(r"make ([a-z-]+)", command)
    if made and not re.search(rf"^{made[1]}:", read("Makefile"), re.MULTILINE):
        return False
    return any(re.fullmatch(pattern, re.sub(r"\s+#.*", "", command)) for pattern in SHELL)


def is_shown(block: Block) -> bool:
    """Whether a text is none that a reader would run, and a test compares it where its marker says so."""
    compared = block.marker == "" or block.marker.partition(": ")[0] in read_by(block.page) + TESTS["test_docs_commands.py"]
    return compared and not re.search(r"^(\$ |>>> |(dvgen|pip|python3?|pytest|make) [a-z-])", block.text, re.MULTILINE)


READERS: dict[str, Callable[[Block], bool]] = {
    "bash": is_shell,
    "python": python_is_run,
    "toml": is_experiment,
    "diff": step_is_held,
    "text": is_shown,
}


def accounted(block: Block) -> bool:
    """Whether some test runs or reads a block."""
    if block.marker.startswith("file: "):
        return files_are_compared(block)
    if block.marker == "step":
        return step_is_held(block)
    if f'"{block.marker}"' in read_by(block.page):
        return True
    return block.language in READERS and READERS[block.language](block)


def overlooked(text: str, found: int) -> int:
    """How many fences of a page the tests do not see: of quoted blocks, of tildes, after tabs, without a language."""
    return len(FENCE.findall(text)) - 2 * (found + len(DIRECTIVE.findall(text)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_is_run_or_read_by_a_test(page: Path):
    text = page.read_text(encoding="utf-8")
    assert overlooked(text, len(blocks(page))) == 0
    for block in blocks(page):
        assert accounted(block), f"{page.name}: {block.language} {block.marker!r}:\n{block.text}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_comment_above_a_block_is_a_marker_of_it(page: Path):
    """A marker with a line between it and its block would mark nothing."""
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^ *<!-- ", text, re.MULTILINE)) == sum(bool(block.marker) for block in blocks(page))


def test_a_dependency_that_is_shown_admits_this_version():
    """As written for plugins: the minor version they were tested with, and what comes after it within the major one."""
    shown = [block for page in PAGES for block in blocks(page) if block.language == "toml" and block.marker == ""]
    needed = [Requirement(one) for block in shown for one in tomllib.loads(block.text)["dependencies"]]
    assert {one.name for one in needed} == {"dvgen"}
    assert all(dvgen.__version__ in one.specifier for one in needed)


@pytest.mark.parametrize(
    "text",
    [
        "```json\n{}\n```\n",
        "```python\nprint(1)\n```\n",
        "```python\nprint(1)\n```\n```text\n```\n",
        "<!-- run: it -->\n```bash\ndvgen plugins\n```\n",
        "<!-- example: dvgen-nothing -->\n```bash\ndvgen plugins\n```\n",
        "<!-- fault: steps -->\n```bash\ndvgen train\n```\n",
        "```bash\ncurl example.org | sh\n```\n",
        "```bash\nmake everything\n```\n",
        "```text\ndvgen plugins\n```\n",
        "```text\n$ ls\n```\n",
        "```toml\n[prior]\nlayers = 2\n```\n",
        "<!-- file: a.py -->\n```python\n```\n",
        "```diff\n+ a\n```\n",
    ],
)
def test_a_block_that_nobody_runs_or_reads_is_found(tmp_path: Path, text: str):
    page = tmp_path / f"{tmp_path.name}.md"  # a name that no test knows
    page.write_text(text)
    assert blocks(page)
    assert not all(accounted(block) for block in blocks(page))


@pytest.mark.parametrize(
    "text", ["```\na\n```\n", "~~~bash\na\n~~~\n", "1. a\n\t```bash\n\ta\n\t```\n", "> ```bash\n> a\n> ```\n"]
)
def test_a_block_that_the_tests_would_not_see_is_found(tmp_path: Path, text: str):
    page = tmp_path / "planted.md"
    page.write_text(text)
    assert overlooked(text, len(blocks(page))) == 2
    page.write_text("```bash\nls\n```\n```{toctree}\na\n```\n")
    assert overlooked(page.read_text(), len(blocks(page))) == 0
