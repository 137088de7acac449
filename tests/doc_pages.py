"""What the tests of the documentation read from Markdown: fenced blocks with their markers, table rows, sections."""

import re
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


class Block(NamedTuple):
    """A fenced block: its language, its text, and the HTML comment on the line above it ("" without one)."""

    page: Path
    marker: str
    language: str
    text: str


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(page: Path) -> list[Block]:
    """Those in the items of a list as well, without what they are indented by."""
    pattern = r"(?:^ *<!-- ([^\n]*) -->\n)?^( *)```(\w+)\n(.*?)^\2```$"
    found = re.findall(pattern, page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [Block(page, marker, language, dedent(text)) for marker, _, language, text in found]


def marked(name: str, marker: str) -> str:
    """The text of the one block of a page with this marker."""
    (found,) = (block.text for block in blocks(ROOT / name) if block.marker == marker)
    return found


def rows(text: str) -> list[list[str]]:
    """The cells of every table row of a text, headings left in."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("|") and not re.fullmatch(r"[|\- ]+", line)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def section(text: str, heading: str) -> str:
    """What stands under the heading, to the next one of any level; fails when there is not exactly one such heading."""
    parts = re.split(r"^#+ (.*)$", text, flags=re.MULTILINE)
    (found,) = (body for title, body in zip(parts[1::2], parts[2::2], strict=True) if title == heading)
    return found


def anywhere(heading: str) -> str:
    """What stands under a heading of docs/, on whichever page that is; fails when there is not exactly one such heading."""
    texts = [page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md")]
    (found,) = (text for text in texts if re.search(rf"^#+ {re.escape(heading)}$", text, re.MULTILINE))
    return section(found, heading)


def named(text: str) -> set[str]:
    """Everything a text sets in backticks."""
    return set(re.findall(r"`([^`\n]+)`", text))
