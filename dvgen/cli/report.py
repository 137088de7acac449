"""`dvgen report`: a comparison as a page for a browser."""

import json
from pathlib import Path

import click

from dvgen.cli.every_command import json_option
from dvgen.errors import DataError


@click.command(short_help="Make the HTML page of a finished comparison.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-o", "place", type=click.Path(path_type=Path), metavar="FILE", help="Where to [default: FOLDER/report.html].")
@json_option
def report(folder: Path, place: Path | None, as_json: bool) -> None:
    """Make the page of a finished comparison, from its results.json and the files beside it: dvgen report runs/compare-1a2b3c4d

    The page is one file that needs no network: it can be sent to anybody.
    """
    from dvgen.compare.schema import read_results
    from dvgen.report.html import write_report

    results = read_results(folder)
    try:
        written = write_report(folder if folder.is_dir() else folder.parent, results, place)
    except OSError as error:
        raise DataError(f"{place or folder}: cannot be written: {error.strerror}; choose another place with -o") from None
    size = written.stat().st_size
    if as_json:
        click.echo(json.dumps({"schema": 1, "file": str(written), "bytes": size}))
    else:
        click.echo(f"report: {written} ({size / 1e6:.1f} MB)")
