"""Docstrings of dvgen as reStructuredText: they are prose with `code` in single backticks and "name: what it is" for parts."""

import re
from collections.abc import Iterator

_CODE = re.compile(r"`([^`]+)`")
_SHAPE = re.compile(
    r"\((?=[^()]*[a-z])(?=[^()]*[*_,])(?:\*?[a-z]\w*(?:\[\w+\])?|\d+)(?:(?:, | \* )(?:\*?[a-z]\w*(?:\[\w+\])?|\d+))*,?\)"
)
_ERROR = re.compile(r"\b(\w+Error|Stopped)\b")
_PART = re.compile(r"(?:^|(?<=\. )|(?<=\.\n))([a-z][\w-]*(?:, [a-z][\w-]*)*): ")
_PROSE_AGAIN = re.compile(r"(?<=\.)\n(?=[A-Z])")
_BEFORE, _AFTER = " \n'\"([{<-/:", " \n'\")]}>-/:.,;!?"


def as_restructured_text(text: str, errors: frozenset[str] = frozenset()) -> str:
    """The same text for Sphinx: indented paragraphs become code, parts a list, and names in `errors` links.

    A part begins a paragraph or follows a full stop: one lower-case name or several, a colon, and what they are. It ends
    with the next part, or with a sentence that begins a line, not indented, with a capital.
    """
    paragraphs = [
        paragraph.strip("\n") for paragraph in re.split(r"\n[ \t]*\n", text.expandtabs().rstrip()) if paragraph.strip()
    ]
    return "\n\n".join(block for paragraph in paragraphs for block in _blocks(paragraph, errors)) + "\n"


def _blocks(paragraph: str, errors: frozenset[str]) -> Iterator[str]:
    if all(line.startswith("    ") for line in paragraph.splitlines()):
        yield "::\n\n" + paragraph
        return
    words, *found = _PART.split(paragraph)
    if words.strip():
        yield _running(words, errors)
    for names, rest in zip(found[::2], found[1::2], strict=True):
        about, *more = _PROSE_AGAIN.split(rest)
        told = ", ".join(f"``{name}``" for name in names.split(", "))
        yield f"* {told}: {_running(about, errors)}"
        yield from (_running(one, errors) for one in more)


def _running(text: str, errors: frozenset[str]) -> str:
    """Running text on one line: code in backticks, shapes as code, errors as links, all else as it is."""
    flat = " ".join(text.split())
    pieces = _CODE.split(flat)  # outside, inside, outside, ...
    spans = [piece if i % 2 == 0 else f"`{piece}`" for i, piece in enumerate(pieces)]
    marked = "".join(span if i % 2 else _SHAPE.sub(lambda m: f"`{m[0]}`", span) for i, span in enumerate(spans))
    parts = re.split(r"(`[^`]+`)", marked)
    return "".join(_code(part, parts[i - 1], parts[i + 1]) if i % 2 else _plain(part, errors) for i, part in enumerate(parts))


def _code(span: str, before: str, after: str) -> str:
    """A literal of reStructuredText, which needs an empty escape beside it where it touches a word."""
    left = "" if before[-1:] in _BEFORE else "\\ "
    right = "" if after[:1] in _AFTER else "\\ "
    return f"{left}`{span}`{right}"


def _plain(text: str, errors: frozenset[str]) -> str:
    safe = re.sub(r"([\\*|_])", r"\\\1", text)
    return _ERROR.sub(lambda m: f":py:exc:`~dvgen.errors.{m[0]}`" if m[0] in errors else m[0], safe)
