"""`dvgen compare diff`: what has changed between two comparisons, and how sure that is."""

import json
from pathlib import Path

import click
from rich.console import Console

from dvgen.cli.every_command import json_option

PLACE = click.Path(path_type=Path)
WIDTH = 100
"""Columns of text that is not shown on a terminal."""


@click.command(short_help="What has changed between two comparisons.")
@click.argument("a", type=PLACE)
@click.argument("b", type=PLACE)
@click.option("--common", is_flag=True, help="Compare what was measured in one way, and list what was not.")
@json_option
def diff(a: Path, b: Path, common: bool, as_json: bool) -> None:
    """What has changed from A to B: folders of comparisons or of evaluated runs, or their results.json.

    Every value that both have is compared, with the interval of its difference. Values that were measured in two ways
    are refused (exit code 7).
    """
    from dvgen.compare.diff import diff as changed
    from dvgen.report.changes import show_changes

    found = {"a": str(a), "b": str(b)} | changed(a, b, common=common).to_dict()
    if as_json:
        click.echo(json.dumps(found))
        return
    console = Console()
    show_changes(found, console if console.is_terminal else Console(width=WIDTH))
