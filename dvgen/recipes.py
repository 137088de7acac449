"""Recipes: experiments that plugins ship as TOML files. Imports no torch."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from attrs import Factory, field, fields, frozen
from attrs.validators import deep_iterable, ge, min_len, optional

from dvgen.config import structure
from dvgen.errors import ConfigError, PluginError
from dvgen.registry import Registry, Supplied, describe


@frozen(kw_only=True)
class Published:
    """Parameters that the source of a recipe counts or states, of the tokenizer (encoder, quantizers and decoder), the
    discriminator, and all priors together; None where it does not say."""

    tokenizer: int | None = field(default=None, validator=optional(ge(1)))
    discriminator: int | None = field(default=None, validator=optional(ge(1)))
    prior: int | None = field(default=None, validator=optional(ge(1)))


@frozen(kw_only=True)
class Origin:
    """The table `[recipe]` of the file.

    source: where the numbers come from. shape: (channels, *size) of the signals it is meant for. classes: of the data it is
    meant for, when its priors are conditioned on labels; 0 where it does not say. note: what differs from the source.
    """

    source: str = field(validator=min_len(1))
    shape: tuple[int, ...] = field(validator=[min_len(2), deep_iterable(ge(1))])
    classes: int = field(default=0, validator=ge(0))
    note: str | None = None
    published: Published = Published()


@frozen(kw_only=True)
class Recipe(Origin):
    """A recipe: its origin, the tables of its experiment (`table`), and `place`, which names it, its plugin and its file."""

    name: str
    place: str
    table: Mapping[str, Any] = Factory(dict)

    def fault(self, error: ConfigError) -> PluginError:
        """A fault of the experiment as one of the plugin that ships it."""
        return _fault(self.place, error)


def read_recipe(registry: Registry, name: str) -> Recipe:
    """The recipe of that name; its experiment is not checked.

    Raises ConfigError for an unknown name, PluginError for a file that cannot be read or whose `[recipe]` is at fault.
    """
    supplied = registry.find("recipe", name)
    place = _place(supplied)
    text = recipe_text(registry, name)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PluginError(f"{place}: not TOML: {error}") from None
    try:
        origin = structure(table.pop("recipe", {}), Origin, "recipe")
    except ConfigError as error:
        raise _fault(place, error) from None
    return Recipe(name=name, place=place, table=table, **{f.name: getattr(origin, f.name) for f in fields(Origin)})


def recipe_text(registry: Registry, name: str) -> str:
    """The file of a recipe as it is. Raises ConfigError for an unknown name, PluginError for a file that cannot be read."""
    supplied = registry.find("recipe", name)
    package, _, path = supplied.component.target.partition(":")
    try:
        return resources.files(package).joinpath(*path.split("/")).read_text(encoding="utf-8")
    except (Exception, SystemExit) as error:  # the package is a plugin's
        raise PluginError(f"{_place(supplied)}: cannot be read: {describe(error)}") from error


def _place(supplied: Supplied) -> str:
    component = supplied.component
    return f"recipe {component.name!r} of plugin {supplied.plugin!r} ({supplied.distribution}), {component.target}"


def _fault(place: str, error: ConfigError) -> PluginError:
    return PluginError("\n".join(f"{place}: {line}" for line in str(error).splitlines()))
