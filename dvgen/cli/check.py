"""`dvgen check`: a plugin held to its rules."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from textwrap import shorten

import click

from dvgen.blocks.cache_folder import cache_folder
from dvgen.cli.every_command import json_option, pass_plugins
from dvgen.discovery import Plugins
from dvgen.errors import ConfigError, DataError, PluginError

_NEEDED = ("hypothesis", "pytest")
"""What the optional extra `contracts` installs."""


@click.command(short_help="Hold a plugin to the rules of its kind.")
@click.argument("target")
@click.option("--location", metavar="DIR", help="Where a data set that is read lies, as in --data NAME:DIR.")
@click.option("--slow", is_flag=True, help="Try rules that compile or start processes too; takes minutes.")
@click.option("--examples", type=click.IntRange(min=1), help="Situations that are drawn for each rule [default: by kind].")
@json_option
@pass_plugins
def check(
    load: Callable[[], Plugins], target: str, location: str | None, slow: bool, examples: int | None, as_json: bool
) -> None:
    """Hold a plugin to the rules of packages and to the contract of its kind.

    TARGET is the name of a component, KIND:NAME, NAME:DIR of a data set that is read, a plugin or distribution that is
    installed, or the folder of a plugin that need not be. What is broken is told with the plainest example that breaks it, what
    was found, the line of the plugin, and what usually causes it; a summary in Markdown ends it. Exit code 5 when a rule is
    broken, 3 when a location was given and nothing could be opened there.
    """
    if any(find_spec(name) is None for name in _NEEDED):
        raise ConfigError(
            "dvgen check draws its examples with hypothesis, which is not installed: pip install 'dvgen[contracts]'"
        )
    # hypothesis keeps tables, and would keep them in the working folder
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(cache_folder() / "hypothesis"))
    from dvgen.checking.running import BROKEN, Effort, check_group
    from dvgen.checking.summary import document, markdown, text
    from dvgen.checking.targets import found_plugins, groups, importable

    command, reports = _command(target, location, slow, examples), []
    with importable(target) as modules:
        with redirect_stdout(sys.stderr):
            plugins = found_plugins(_switches(), modules) if modules else load()
        for group in groups(target, plugins, modules, location):
            with _progress() as tell, redirect_stdout(sys.stderr):
                reports.append(check_group(group, Effort(slow, examples), tell))
            if not as_json:
                click.echo("\n".join(text(reports[-1])) + "\n")
    click.echo(json.dumps(document(target, reports, command), indent=1) if as_json else markdown(reports, command))
    if any(report.of(BROKEN) for report in reports):
        raise SystemExit(PluginError.exit_code)
    if any(one.location and report.why for report in reports for one in report.group):  # the data were named, and are not there
        raise SystemExit(DataError.exit_code)


def _command(target: str, location: str | None, slow: bool, examples: int | None) -> str:
    """What repeats the check."""
    words = ["dvgen", *(word for switch in _switches() for word in ("-p", switch)), "check", target]
    words += [] if location is None else ["--location", location]
    words += ["--slow"] if slow else []
    return shlex.join(words if examples is None else [*words, "--examples", str(examples)])


def _switches() -> tuple[str, ...]:
    """The -p switches of the command line."""
    return tuple(click.get_current_context().find_root().params.get("switches", ()))


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error, where that is a terminal, and nothing of it is left behind; gives what moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    wide = max(5, min(30, console.width // 5))
    columns = (BarColumn(bar_width=wide), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)

        def tell(rule: str, done: int, of: int) -> None:
            line = shorten(rule, max(10, console.width - wide - 2), placeholder=" ...")  # a second line would be left behind
            bar.update(task, description=line, completed=done, total=of or None, refresh=True)

        yield tell
