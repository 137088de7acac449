"""`dvgen plugins` and `dvgen data`: what there is."""

import json
from collections.abc import Callable
from typing import Any

import click
from attrs import asdict

from dvgen.cli.every_command import json_option, pass_plugins
from dvgen.discovery import Plugins
from dvgen.training.symptoms import Symptom, see


@click.command(short_help="List components, and plugins that failed.")
@json_option
@pass_plugins
def plugins(load: Callable[[], Plugins], as_json: bool) -> None:
    """List every component by kind, where it comes from, and the plugins that failed to load."""
    registry = load().registry
    rows = sorted(registry.supplied, key=lambda s: (s.component.kind, s.component.name, s.plugin))
    if as_json:
        flat = [asdict(s.component) | {"plugin": s.plugin, "distribution": s.distribution} for s in rows]
        click.echo(json.dumps({"schema": 1, "components": flat, "failures": [asdict(f) for f in registry.failures]}, indent=1))
        return
    headings = ("KIND", "NAME", "PLUGIN", "DISTRIBUTION", "SUMMARY")
    table = [(s.component.kind, s.component.name, s.plugin, s.distribution, s.component.summary) for s in rows]
    for line in columns([headings, *table]):
        click.echo(line)
    for failure in registry.failures:
        click.echo(f"FAILED: plugin {failure.plugin!r} ({failure.distribution}): {failure.reason}. {see(Symptom.NO_PLUGIN)}")


@click.command(short_help="Say which data sets can be opened.")
@click.argument("sets", nargs=-1, metavar="[NAME[:DIR]]...")
@json_option
@pass_plugins
def data(load: Callable[[], Plugins], sets: tuple[str, ...], as_json: bool) -> None:
    """Say which data sets there are, whether they can be opened, and where they were looked for.

    With names, only those are opened: dvgen data mnist:path/to/files folder:path/to/images
    """
    from dvgen.data.loading import survey
    from dvgen.experiment import DataChoice, parse_data

    registry = load().registry
    choices = [parse_data(text) for text in sets] or [DataChoice(use=name) for name in registry.names("dataset")]
    rows = [survey(registry, choice) for choice in choices]
    if as_json:
        click.echo(json.dumps({"schema": 1, "data": rows}, indent=1))
    else:
        for row in rows:
            _show(row)
    if sets and any(row["fault"] for row in rows):
        raise SystemExit(3)


def _show(row: dict[str, Any]) -> None:
    click.echo(f"{row['name']}: {row['summary']}")
    if row["fault"]:
        click.echo(f"  not available: {row['fault']}")
        return
    sizes = ", ".join(f"{split} {size}" for split, size in row["splits"].items())
    click.echo(f"  {row['location'] or 'drawn by dvgen'}: {sizes}; shape {tuple(row['shape'])}; {len(row['classes'])} classes")
    for name in row["skipped"][:10]:
        click.echo(f"  skipped, cannot be read: {name}")
    if len(row["skipped"]) > 10:
        click.echo(f"  ... and {len(row['skipped']) - 10} more files")


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of equally many cells as lines of text, each column as wide as its widest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
