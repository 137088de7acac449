"""`dvgen new`: the files of a plugin of one's own."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import click

from dvgen.cli.every_command import json_option, pass_plugins, say
from dvgen.discovery import Plugins


@click.command(short_help="Begin a plugin of your own.")
@click.argument("kind")
@click.argument("name")
@click.option("--into", type=click.Path(path_type=Path), default=Path(), help="Folder to write into [default: this one].")
@json_option
@pass_plugins
def new(load: Callable[[], Plugins], kind: str, name: str, into: Path, as_json: bool) -> None:
    """Begin a plugin of your own: dvgen new quantizer my-vq

    Writes the folder dvgen-NAME: a distribution with one class that works, to be changed, and the tests of its contract.
    KIND: encoder (with its decoder), quantizer, discriminator, loss, adversarial-loss, prior, dataset, code-source,
    features, recipe. Nothing is overwritten.
    """
    from dvgen.scaffold.kinds import TOGETHER
    from dvgen.scaffold.names import names_for
    from dvgen.scaffold.writing import write_plugin

    names = names_for(load().registry, kind, name)
    folder = write_plugin(names, into)
    if kind in TOGETHER:
        say(f"a {kind} and its {names.kind} are made together")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    commands = [f"pip install -e {shlex.quote(str(folder))}", f"dvgen check {name}", *names.compare]
    if as_json:
        made = {"kind": names.kind, "name": name, "distribution": names.distribution, "package": names.package}
        click.echo(json.dumps({"schema": 1, **made, "folder": str(folder), "files": files, "next": commands}, indent=1))
        return
    about = names.outline.about
    click.echo(f"{folder}: {about[0].lower()}{about[1:]}; it works as it is, and is yours to change")
    for line in (*(f"  {file}" for file in files), "next:", *(f"  {command}" for command in commands)):
        click.echo(line)
