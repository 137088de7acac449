"""`dvgen recipes`: the experiments that plugins ship."""

import json
from collections.abc import Callable

import click

from dvgen.cli.every_command import json_option, pass_plugins
from dvgen.cli.listing import columns
from dvgen.discovery import Plugins
from dvgen.errors import ConfigError
from dvgen.registry import Registry


@click.command(short_help="List recipes, or say what is in one.")
@click.argument("name", required=False)
@click.option("--toml", "as_toml", is_flag=True, help="The file itself, to copy, change, and give to --config.")
@json_option
@pass_plugins
def recipes(load: Callable[[], Plugins], name: str | None, as_toml: bool, as_json: bool) -> None:
    """List the experiments that plugins ship; with a name, say what is in one and how large it is.

    Parameters are counted on models without weights, so that no data and little memory are needed.
    """
    registry = load().registry
    if as_toml and (name is None or as_json):
        raise ConfigError("--toml: expected the name of a recipe before it, and no --json")
    if name is None:
        _list(registry, as_json)
        return
    from dvgen.cli.recipe_outline import describe  # of experiments, which a list does without
    from dvgen.recipes import read_recipe, recipe_text

    if as_toml:
        click.echo(recipe_text(registry, name), nl=False)
    else:
        describe(registry, read_recipe(registry, name), as_json)


def _list(registry: Registry, as_json: bool) -> None:
    found = sorted((s for s in registry.supplied if s.component.kind == "recipe"), key=lambda s: (s.component.name, s.plugin))
    if as_json:
        rows = [
            {"name": s.component.name, "summary": s.component.summary, "plugin": s.plugin, "distribution": s.distribution}
            for s in found
        ]
        click.echo(json.dumps({"schema": 1, "recipes": rows}, indent=1))
        return
    table = [(s.component.name, s.component.summary, s.plugin) for s in found]
    for line in columns([("NAME", "SUMMARY", "PLUGIN"), *table]):
        click.echo(line)
