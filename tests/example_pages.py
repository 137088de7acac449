"""Tests of tutorials: the files that a page shows, those of its example, and the code that is no file."""

from pathlib import Path

from doc_pages import blocks


def shown_files(page: Path) -> dict[str, str]:
    """The text of every block marked `file: PATH`, by path; each stands there once."""
    marked = [block for block in blocks(page) if block.marker.startswith("file: ")]
    shown = {block.marker.removeprefix("file: "): block.text for block in marked}
    assert len(marked) == len(shown)
    return shown


def files_of(example: Path) -> dict[str, str]:
    """The text of every file that a reader has to write, by its path within the folder."""
    written = [path for path in example.rglob("*") if path.suffix in (".py", ".toml")]
    return {path.relative_to(example).as_posix(): path.read_text(encoding="utf-8") for path in written}


def run_python(page: Path) -> None:
    """Run every block of Python that is no file, each by itself; there is one at least."""
    shown = [block for block in blocks(page) if block.language == "python" and not block.marker.startswith("file: ")]
    assert shown
    for block in shown:
        exec(compile(block.text, str(page), "exec"), {"__name__": "tutorial"})
