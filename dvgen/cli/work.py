"""What the commands that compute share: opening a session, watching it, telling results. Imports torch."""

import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console

from dvgen.cli.every_command import say
from dvgen.config import structure
from dvgen.discovery import Plugins
from dvgen.errors import Stopped
from dvgen.experiment import Experiment
from dvgen.report.progress import ProgressConsole
from dvgen.report.table import WIDTH, show_results
from dvgen.training.interrupt import stop_on_signal
from dvgen.training.session import Hardware, Session, close_session, open_session


@contextmanager
def session_for(plugins: Plugins, options: Mapping[str, Any], experiment: Experiment | None = None) -> Iterator[Session]:
    """A session on the hardware asked for, shown on standard error, that stops on Ctrl-C without loss.

    Training has the precision of its experiment; without one, nothing is trained.
    """
    chosen = {name: options[name] for name in ("accelerator", "devices", "deterministic", "compile") if name in options}
    hardware = structure(chosen | ({"precision": experiment.train.precision} if experiment else {}), Hardware)
    with stop_on_signal(say) as stop, ProgressConsole(Console(stderr=True)) as progress:
        plugins.manager.register(progress, name="progress-console")
        try:
            session = open_session(plugins, stop, hardware)
            yield session
            close_session(session)
        except Stopped as error:  # raised on every rank at once
            traceback.clear_frames(error.__traceback__)  # they hold the wrapped module
            close_session(session)
            raise
        finally:
            plugins.manager.unregister(name="progress-console")


def print_results(results: Mapping[str, Any], as_json: bool) -> None:
    """Results on standard output: tables, or the document itself."""
    if as_json:
        click.echo(json.dumps(results))
        return
    console = Console()
    show_results(results, console if console.is_terminal else Console(width=WIDTH))
