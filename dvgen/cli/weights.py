"""`dvgen weights`: the published files of weights that components need; which are here, and how the others come here."""

import http.client
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from attrs import field, frozen

from dvgen.blocks.weight_file import check_weight_hash, present_weight_file, weight_folders, weight_places
from dvgen.cli.every_command import json_option, pass_plugins, say
from dvgen.discovery import Plugins
from dvgen.errors import ConfigError, DataError, PluginError
from dvgen.interfaces.weights import WeightFile
from dvgen.registry import INTERFACES, Registry, closest
from dvgen.sealed import flush, sha256

TIMEOUT = 60.0
"""Seconds without an answer after which a download is given up."""


@frozen
class Known:
    """A file, and the components that need it, such as "features inception"."""

    file: WeightFile
    needed_by: list[str] = field(factory=list)


@click.group(short_help="List, add and fetch files of weights.")
def weights() -> None:
    """The files of weights that others published and some components need: FID's network, LPIPS, ..."""


@weights.command("list")
@json_option
@pass_plugins
def list_files(load: Callable[[], Plugins], as_json: bool) -> None:
    """List every file, what needs it, whether it is here, where it is looked for and where it comes from."""
    rows = [survey_file(known) for known in known_files(load().registry)]
    if as_json:
        click.echo(json.dumps({"schema": 1, "weights": rows}, indent=1))
        return
    for row in rows:
        click.echo(f"{row['name']}: {row['status']}")
        click.echo(f"  needed by:  {', '.join(row['needed_by'])}")
        for place in [row["path"]] if row["path"] else row["places"]:
            click.echo(f"  {'found at:  ' if row['path'] else 'looked for:'} {place}")
        if row["status"] != "present":
            click.echo(f"  get it:     {row['url']}")
            click.echo(f"              dvgen weights add FILE, or dvgen weights get {row['name']} --allow-download")


@weights.command("add")
@click.argument("path", type=click.Path(path_type=Path), metavar="FILE")
@json_option
@pass_plugins
def add_file(load: Callable[[], Plugins], path: Path, as_json: bool) -> None:
    """Check a file's SHA-256 and copy it to the first place where it is looked for, whatever its name is here."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of a file of weights (dvgen weights list names them)")
    known = known_files(load().registry)
    try:
        file = _recognised(path, known)
        with _placed(file) as aside:
            shutil.copyfile(path, aside)
            check_weight_hash(path, sha256(aside), file)
    except OSError as error:
        raise DataError(f"{error.filename or path}: {error.strerror}; choose another folder with DVGEN_WEIGHTS") from None
    _installed(file, as_json)


@weights.command("get")
@click.argument("name", metavar="NAME")
@click.option("--allow-download", is_flag=True, help="Fetch the file from where it is published.")
@json_option
@pass_plugins
def get_file(load: Callable[[], Plugins], name: str, allow_download: bool, as_json: bool) -> None:
    """Download a file by its name, check its SHA-256, and put it where it is looked for."""
    known = known_files(load().registry)
    found = [entry.file for entry in known if name in entry.file.names]
    if not found:
        names = [alias for entry in known for alias in entry.file.names]
        raise ConfigError(f"weights {name!r}: nothing needs such a file{closest(name, names)}; known: {', '.join(names)}")
    if not allow_download:
        raise DataError(f"{name}: nothing is downloaded unless it is asked for; add --allow-download to fetch {found[0].url}")
    say(f"downloading {found[0].url}")
    try:
        with _placed(found[0]) as aside:
            _download(found[0].url, aside)
            check_weight_hash(found[0].url, sha256(aside), found[0])
    except (OSError, http.client.HTTPException) as error:  # urllib's errors and time-outs are of the first kind
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise DataError(f"{found[0].url}: cannot be fetched: {reason}; get it on another machine: dvgen weights add") from None
    _installed(found[0], as_json)


def known_files(registry: Registry) -> list[Known]:
    """Every file that some component declares. Components that cannot be imported are passed over: see `dvgen plugins`."""
    from dvgen.interfaces.model import Model  # imports torch

    found: dict[tuple[str, ...], Known] = {}
    for kind in INTERFACES:
        for name in registry.names(kind):
            try:
                cls = registry.load(kind, name) if INTERFACES[kind] else None
            except PluginError:
                continue
            files = cls.weight_files if isinstance(cls, type) and issubclass(cls, Model) else ()
            for file in files:
                found.setdefault(file.names, Known(file)).needed_by.append(f"{kind} {name}")
    return list(found.values())


def survey_file(known: Known) -> dict[str, Any]:
    """What is known of a file; its status is "present", "absent", or what is wrong with the file that is there."""
    file = known.file
    path, status = present_weight_file(file), "absent"
    if path is not None:
        try:
            check_weight_hash(path, sha256(path), file)
            status = "present"
        except DataError:
            status = "wrong hash"
        except OSError as error:
            status = f"cannot be read ({error.strerror})"
    return {
        "name": file.names[0],
        "names": list(file.names),
        "status": status,
        "path": None if path is None else str(path),
        "places": [str(place) for place in weight_places(file)],
        "sha256": file.sha256,
        "url": file.url,
        "needed_by": known.needed_by,
    }


def _recognised(path: Path, known: list[Known]) -> WeightFile:
    """The record of a file by its content; raises DataError for a file that nothing needs, and says what it is instead."""
    found = sha256(path)
    for file in (entry.file for entry in known):
        if found.startswith(file.sha256):
            return file
    for file in (entry.file for entry in known):
        # by its name, too: a damaged copy of another network is another network all the same
        what = next((what for start, what in file.mistaken.items() if found.startswith(start) or start in path.name), None)
        if what:
            raise DataError(f"{path}: refused: this is {what}; {file.names[0]} is needed: {file.url}")
        if path.name in file.names:
            check_weight_hash(path, found, file)
    names = ", ".join(entry.file.names[0] for entry in known)
    raise DataError(f"{path}: refused: nothing needs a file whose SHA-256 begins with {found[:8]}; known: {names}")


@contextmanager
def _placed(file: WeightFile) -> Iterator[Path]:
    """A path to write a file to, which is then put into the first of its places in one act, or taken away when that fails."""
    place = weight_places(file)[0]
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f".{place.name}-{os.getpid()}")
    try:
        yield aside
        flush(aside)
        aside.replace(place)
    finally:
        aside.unlink(missing_ok=True)


def _download(url: str, target: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, target.open("wb") as out:  # noqa: S310 - a plugin's own URL
        shutil.copyfileobj(answer, out)


def _installed(file: WeightFile, as_json: bool) -> None:
    place = weight_folders()[0] / file.names[0]
    if as_json:
        click.echo(json.dumps({"schema": 1, "name": file.names[0], "file": str(place), "sha256": sha256(place)}))
    else:
        click.echo(f"{place}: in place")
