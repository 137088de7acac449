"""What the tests of the tutorials share: the plugin that a page makes, built from the page alone, and what is done with it."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from doc_pages import ROOT, Block, blocks
from example_pages import shown_files
from tiny_experiment import invoke

COMMANDS = "tutorial: "
"""How the marker begins of a block whose commands name what the page makes."""


def files(page: str, distribution: str) -> dict[str, str]:
    """The files that a page of docs/ prints for a distribution: paths inside its folder, and texts.

    A page that makes several distributions begins each path with the folder, such as "dvgen-my-loss/"; one that makes a
    single distribution need not.
    """
    shown: dict[str, str] = {}
    for path, text in shown_files(ROOT / "docs" / page).items():
        folder, _, inside = path.partition("/")
        if folder.startswith("dvgen-") and folder != distribution:
            continue
        place = inside if folder == distribution else path
        assert place not in shown, f"{page} prints {place} twice"
        shown[place] = text
    return shown


def made(page: str, kind: str, name: str, into: Path) -> Path:
    """The folder of the distribution that a page makes: what `dvgen new` writes, and over it every file that is printed."""
    invoke("new", kind, name, "--into", into)
    folder = into / f"dvgen-{name}"
    shown = files(page, folder.name)
    assert shown, f"{page} prints no file of {folder.name}"
    for place, text in shown.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@contextmanager
def importable(*folders: Path) -> Iterator[list[str]]:
    """Inside, the packages of these distributions can be imported; gives their names. Afterwards nothing of them is left."""
    names = [folder.name.replace("-", "_") for folder in folders]
    sys.path[:0] = map(str, folders)
    importlib.invalidate_caches()
    try:
        yield names
    finally:
        for folder in folders:
            sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):  # the tests of all distributions are called alike
            if any(folder in Path(getattr(module, "__file__", None) or ".").parents for folder in folders):
                del sys.modules[name]


def own_tests_pass(folder: Path) -> None:
    """Run the tests in a distribution's folder in this process, those that are not slow; its package must be importable."""
    options = ["-q", "-m", "not slow", "-p", "no:cacheprovider", "--import-mode=importlib"]
    place = ["-c", str(folder / "pyproject.toml"), "--rootdir", str(folder), str(folder / "tests")]
    assert pytest.main([*options, *place]) == pytest.ExitCode.OK


def keeps_its_contract(folder: Path, *, examples: int = 1) -> None:
    """Hold a distribution to all its rules, as `dvgen check` does, without the slow ones; fails when one is broken."""
    invoke("check", folder, "--examples", examples)


def command_blocks(page: str) -> list[Block]:
    """The blocks of a page whose commands name what it makes."""
    return [block for block in blocks(ROOT / "docs" / page) if block.marker.startswith(COMMANDS)]
