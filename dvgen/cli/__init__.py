"""The command line. A command is imported when it is run, and torch inside those that compute, so that listing stays fast."""

import os
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from dvgen import __version__
from dvgen.cli.on_demand import Entry, GroupOnDemand
from dvgen.errors import DvgenError, PluginError

if TYPE_CHECKING:
    from dvgen.discovery import Plugins

INTERRUPTED = 130
COMMANDS = {
    "check": Entry("dvgen.cli.check:check", "Hold a plugin to the rules of its kind."),
    "compare": Entry("dvgen.cli.compare:compare", "Train a grid of experiments and compare them."),
    "data": Entry("dvgen.cli.listing:data", "Say which data sets can be opened."),
    "doctor": Entry("dvgen.cli.doctor:doctor", "Say whether this machine is ready."),
    "evaluate": Entry("dvgen.cli.run:evaluate", "Measure a finished run on its test split."),
    "explain": Entry("dvgen.cli.explain:explain", "Say what an interface asks for, or what a component is."),
    "new": Entry("dvgen.cli.new:new", "Begin a plugin of your own."),
    "plugins": Entry("dvgen.cli.listing:plugins", "List components, and plugins that failed."),
    "recipes": Entry("dvgen.cli.recipes:recipes", "List recipes, or say what is in one."),
    "report": Entry("dvgen.cli.report:report", "Make the HTML page of a finished comparison."),
    "sample": Entry("dvgen.cli.sample:sample", "Draw samples from a finished run."),
    "train": Entry("dvgen.cli.run:train", "Train one experiment: tokenizer, codes, prior."),
    "verify": Entry("dvgen.cli.verify:verify", "Prove that a prior's likelihood is one."),
    "weights": Entry("dvgen.cli.weights:weights", "List, add and fetch files of weights."),
}
"""The lines are the commands' own, which a test compares."""


@click.group(
    cls=GroupOnDemand,
    entries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="dvgen")
@click.option(
    "-p", "switches", multiple=True, metavar="SWITCH", help="no:NAME blocks a plugin; MODULE loads one that is not installed."
)
@click.pass_context
def group(context: click.Context, switches: tuple[str, ...]) -> None:
    """Discrete generative models from interchangeable parts, and one honest comparison of them."""
    context.obj = lambda: _discover(switches, strict=context.invoked_subcommand not in ("plugins", "doctor"))


def _discover(switches: tuple[str, ...], *, strict: bool) -> "Plugins":
    """The plugins; one that was asked for with -p and failed is an error, except for the commands that list failures."""
    from dvgen.discovery import discover

    found = discover(switches)
    asked = [failure for failure in found.registry.failures if failure.plugin in switches]
    if strict and asked:
        raise PluginError(f"-p {asked[0].plugin}: cannot be loaded: {asked[0].reason}")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error is one line a fault on standard error, and its exit code."""
    warnings.showwarning = _one_line
    try:
        code = group.main(args=arguments, prog_name="dvgen", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):  # click makes the one of the other
        _say("interrupted; finished checkpoints are kept")
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        _say(error.format_message())
        sys.exit(error.exit_code)
    except DvgenError as error:
        from dvgen.cli.telling import lines_of

        for line in lines_of(error):
            _say(line)
        sys.exit(error.exit_code)
    except Exception as error:
        if os.environ.get("DVGEN_DEBUG"):
            raise
        from dvgen.cli.telling import told

        line, code = told(error)
        _say(line)
        sys.exit(code)
    sys.exit(code if isinstance(code, int) else 0)


def _say(text: str) -> None:
    click.echo(f"dvgen: {text}", err=True)


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    _say(f"warning: {message}")
