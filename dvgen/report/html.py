"""A comparison as one page that needs nothing else: no network, no script, no other file."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from dvgen import __version__
from dvgen.report.appendix import command_line, facts, key_list
from dvgen.report.cells import Keys, Results
from dvgen.report.group_page import group_page, picture_files
from dvgen.sealed import write_text

REPORT = "report.html"
PICTURES = 3_400_000
"""Bytes of base64 that all pictures share; the rest of a page is charts and tables, under 1.5 MB of them."""


def write_report(folder: Path, results: Results, place: Path | None = None) -> Path:
    """Write the page of the results of the comparison in `folder` to `place` (report.html in that folder); returns the place.

    results: schema 2. Files of the comparison that are not there are left out, those that are damaged are said to be.
    """
    place = place or folder / REPORT
    write_text(place, render(folder, results))
    return place


def render(folder: Path, results: Results) -> str:
    """The page as text."""
    keys = Keys.of(results)
    limit = PICTURES // max(1, len(picture_files(folder, results)))
    groups = [group_page(folder, group, keys, number, limit) for number, group in enumerate(results["groups"], start=1)]
    environment = Environment(
        loader=PackageLoader("dvgen.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        version=__version__,
        results=results,
        groups=groups,
        command=command_line(results),
        facts=facts(results),
        keys=key_list(keys),
    )
