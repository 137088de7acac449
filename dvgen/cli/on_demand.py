"""A group of commands that are imported when they are run, so that its help waits for none of them."""

from collections.abc import Iterator, Mapping
from pkgutil import resolve_name
from typing import Any, NamedTuple, final

import click


class Entry(NamedTuple):
    """Where a command is, as "package.module:attribute", and its line in the help of the group."""

    place: str
    line: str


@final
class OnDemand(Mapping[str, click.Command]):
    """Commands by name; each is imported when it is taken from here, and asking for the names imports none."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self.entries = entries

    def __getitem__(self, name: str) -> click.Command:
        """The command itself. Raises KeyError for an unknown name."""
        return resolve_name(self.entries[name].place)  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


@final
class GroupOnDemand(click.Group):
    """A group whose help shows the lines of its entries: to ask the commands for theirs would import them all."""

    def __init__(self, *arguments: Any, entries: Mapping[str, Entry], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.commands = OnDemand(entries)  # type: ignore[assignment]  # nothing is added to it

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As of any group, of commands that have nothing but their lines."""
        entries = self.commands.entries  # type: ignore[attr-defined]
        click.Group(commands=[click.Command(name, short_help=e.line) for name, e in entries.items()]).format_commands(
            ctx, formatter
        )
