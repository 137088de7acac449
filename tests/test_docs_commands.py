"""Every command that the documentation shows parses, names what there is, and is listed in the README; quick ones are run."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from doc_pages import PAGES, ROOT, Block, blocks, marked, named, read, rows, section

from dvgen.checking.targets import groups
from dvgen.cli import group
from dvgen.cli.compare import grid
from dvgen.cli.options import one
from dvgen.cli.sample import _check as sampling_check
from dvgen.cli.weights import known_files
from dvgen.discovery import Plugins, discover
from dvgen.errors import ConfigError

ASSIGNED = re.compile(r"[A-Z_]+=\S*")


def every_command(root: click.Group = group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command and its path, such as "compare diff"; those of a group after the group itself."""
    for name, command in root.commands.items():
        yield f"{path}{name}", command
        if isinstance(command, click.Group):
            yield from every_command(command, f"{path}{name} ")


def test_every_command_is_listed():
    """But for groups that do nothing by themselves."""
    does = {path for path, command in every_command() if not isinstance(command, click.Group) or command.invoke_without_command}
    assert {f"`dvgen {path}`" for path in does} == {row[0] for row in rows(section(read("README.md"), "Commands"))[1:]}


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Plugins:
    """All that is installed, and the examples of the documentation."""
    folders = [ROOT / "docs" / "example_plugin", *sorted((ROOT / "docs" / "example_plugins").iterdir())]
    for folder in folders:
        monkeypatch.syspath_prepend(folder)
    return discover(["dvgen_example", "dvgen_cvq", "dvgen_mingru"])


def commands(text: str) -> list[list[str]]:
    """The arguments of every `dvgen ...` of a shell text."""
    parts = [part for line in text.splitlines() for part in line.split("&&")]
    words = [shlex.split(part, comments=True) for part in parts]
    bare = [[word for i, word in enumerate(line) if not all(ASSIGNED.fullmatch(w) for w in line[: i + 1])] for line in words]
    return [line[1:] for line in bare if line[:1] == ["dvgen"]]


SHOWN = [(block, line) for page in PAGES for block in blocks(page) if block.language == "bash" for line in commands(block.text)]


def parsed(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    """The command and its options, as click reads them; nothing is run. Raises what click raises."""
    seen: list[tuple[str, dict[str, Any]]] = []
    for path, command in every_command():
        monkeypatch.setattr(command, "callback", lambda path=path, **options: seen.append((path, options)))
    result = CliRunner().invoke(group, arguments, standalone_mode=False)
    if result.exception:
        raise result.exception
    return seen[-1] if seen else ("", {})  # a group comes before its command


def resolve(plugins: Plugins, name: str, options: dict[str, Any]) -> None:
    """Everything that the command itself would check before it computes."""
    if name == "train" and options["resume"] is None:
        one(options, plugins)
    if name == "compare":
        grid(plugins.registry, options)
    if name == "check":
        assert groups(options["target"], plugins)
    if name == "verify":
        plugins.registry.load("prior", options["name"])
        plugins.registry.load("code-source", options["source"])
    if name == "sample":
        sampling_check(options)
    if name in ("weights get", "weights add"):
        asked = options["name"] if name == "weights get" else options["path"].name
        assert asked in {alias for known in known_files(plugins.registry) for alias in known.file.names}


@pytest.mark.parametrize(("block", "line"), SHOWN, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_every_command_shown_parses_and_names_what_there_is(block: Block, line: list[str], plugins, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("experiment.toml").write_text(marked("docs/experiments.md", "example: experiment.toml"))
    name, options = parsed(line, monkeypatch)
    if block.marker.startswith("tutorial: "):
        return  # it names what the page makes: the page's own test has made it, and resolves it
    if not block.marker.startswith("fault"):
        resolve(plugins, name, options)
        return
    with pytest.raises(ConfigError) as caught:
        resolve(plugins, name, options)
    told = [f"dvgen: {fault}" for fault in str(caught.value).splitlines()]
    assert marked(block.page.relative_to(ROOT).as_posix(), block.marker.replace("fault", "answer")).splitlines() == told


def test_commands_are_found_and_a_wrong_one_is_refused(plugins, monkeypatch):
    assert len(SHOWN) > 20
    assert commands("A=b C=d dvgen -p x plugins && dvgen data # why") == [["-p", "x", "plugins"], ["data"]]
    with pytest.raises(Exception, match="No such option"):
        parsed(["train", "--quantiser", "ema"], monkeypatch)
    with pytest.raises(ConfigError, match="no quantizer named 'emma'"):
        resolve(plugins, *parsed(["compare", "--quantizer", "ema,emma"], monkeypatch))
    for wrong in (
        ["check", "emma"],
        ["verify", "gtp"],
        ["verify", "gpt", "--source", "markow"],
        ["sample", "a", "--keep", "top:0.5"],
    ):
        with pytest.raises(ConfigError):
            resolve(plugins, *parsed(wrong, monkeypatch))
    with pytest.raises(AssertionError):
        resolve(plugins, *parsed(["weights", "get", "inception.pth"], monkeypatch))


QUICK = ("plugins", "explain", "recipes", "data", "weights list", "new")
"""Commands that answer at once: they are run."""
ABSENT = re.compile(r"not available: .*path/to/")
"""What `dvgen data` says of a folder that stands for the reader's own."""


@pytest.mark.parametrize(
    ("block", "line"),
    [(block, line) for block, line in SHOWN if not block.marker.startswith("tutorial: ")],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_quick_command_shown_does_what_it_says(block: Block, line: list[str], monkeypatch, tmp_path):
    """In an empty folder, beside the first example; beside another only where the text says so: before, it is being made."""
    with pytest.MonkeyPatch.context() as patch:
        name, _ = parsed(line, patch)
    if name not in QUICK:
        return
    monkeypatch.chdir(tmp_path)
    for module in [module for module in sys.modules if module.partition(".")[0] in ("dvgen_cvq", "dvgen_mingru")]:
        monkeypatch.delitem(sys.modules, module)
    # other tests put them there
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "example_plugins" not in place])
    monkeypatch.syspath_prepend(ROOT / "docs" / "example_plugin")
    example = block.marker.partition("example: ")[2]
    if example:
        monkeypatch.syspath_prepend(ROOT / "docs" / "example_plugins" / example)
        line = ["-p", example.replace("-", "_"), *line]
    done = CliRunner().invoke(group, line, standalone_mode=False)
    assert done.exception is None or name == "data", done.exception
    if name == "data" and done.exception:
        assert len(ABSENT.findall(done.stdout)) == len(line) - 1
    assert done.stdout.strip()


def test_every_option_says_what_it_is_for():
    """In its help, or on a page that names it: what stands in none is known to nobody."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for path, command in every_command():
        for option in (param for param in command.params if isinstance(param, click.Option)):
            told = any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", pages) for name in option.opts)
            assert option.help or told, f"dvgen {path}: {option.opts[0]}"


def test_every_command_says_in_its_help_what_it_does():
    for path, command in every_command():
        assert len((command.help or "").split()) > 3, path


def test_every_command_in_running_text_has_its_name_and_options():
    paths = dict(every_command())
    for page in PAGES:
        for text in (text for text in named(page.read_text()) if text.startswith("dvgen ")):
            words = [word for word in shlex.split(text)[1:] if re.fullmatch(r"[a-z]+|--?[a-z-]+", word)]
            plain = [word for word in words if not word.startswith("-")]
            path = max((path for path in paths if path.split() == plain[: len(path.split())]), key=len, default="")
            command = paths.get(path, group)
            known = {option for source in (group, command) for p in source.params for option in p.opts} | {"--help"}
            free = set(plain) if any(isinstance(p, click.Argument) for p in command.params) else set()
            assert set(words) - set(path.split()) - free <= known, f"{page.name}: {text}"
            if path in QUICK and plain != path.split():
                assert CliRunner().invoke(group, plain, standalone_mode=False).exception is None, f"{page.name}: {text}"
