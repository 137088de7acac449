"""What any command may use, also one that only lists and must not wait for what reads experiments."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on standard output, the rest on standard error."
)


def pass_plugins(command: F) -> F:
    """Hand a command, as its first argument, the function that discovers the plugins; discovery can fail, `--help` must not."""
    return click.pass_obj(command)  # type: ignore[arg-type, return-value]


def say(text: str) -> None:
    """Tell a person what is being done, on standard error."""
    click.echo(text, err=True)
