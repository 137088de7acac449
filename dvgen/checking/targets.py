"""What is to be checked: components, from a name, KIND:NAME, a data set's NAME:DIR, a plugin, a distribution, or a folder."""

import importlib
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from dvgen.checking.place import package_of, place_of_error
from dvgen.discovery import GROUP, Plugins, discover
from dvgen.errors import ConfigError, PluginError
from dvgen.registry import INTERFACES, KINDS, Failure, Registry, Supplied, closest

PAIRS = {"encoder": "decoder", "decoder": "encoder"}
"""Kinds that are checked together."""


@frozen
class Checked:
    """A component under check: where it is registered, and the module that lists it. location: of a data set that is read."""

    registry: Registry
    supplied: Supplied
    module: str
    location: str | None = None

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.supplied.component.kind

    @property
    def name(self) -> str:
        """Its name."""
        return self.supplied.component.name

    @property
    def target(self) -> str:
        """Where its class is."""
        return self.supplied.component.target

    @property
    def has_class(self) -> bool:
        """Whether it is a class; a recipe is not."""
        return INTERFACES[self.kind] is not None

    def load(self) -> Any:
        """Its class. Raises PluginError when it cannot be imported or is not of its kind."""
        return self.registry.load(self.kind, self.name)


Group = tuple[Checked, ...]
"""Components whose contract is one: an encoder and its decoder, or one component of any other kind."""


@contextmanager
def importable(target: str) -> Iterator[tuple[str, ...]]:
    """What a plugin's folder holds can be imported inside; gives its modules, none for a target that is no folder.

    Raises ConfigError for a folder without entry points for dvgen.
    """
    folder = Path(target)
    if not _is_folder(target):
        yield ()
        return
    modules = _modules(folder)
    places = [str(place.resolve()) for place in (folder / "src", folder) if place.is_dir()]
    sys.path[:0] = places
    try:
        yield modules
    finally:
        for place in places:
            sys.path.remove(place)


def groups(target: str, plugins: Plugins, modules: Sequence[str] = (), location: str | None = None) -> list[Group]:
    """The components that a target names, encoders with their decoders.

    modules: of a folder, which are all that counts then. location: of the one data set among them, which NAME:DIR names as
    well. Raises ConfigError when nothing has that name, or nothing takes the location, and PluginError when what has the name
    cannot be loaded.
    """
    if modules:
        found = _of_modules(target, plugins, modules)
    else:
        found, behind = _named(target, plugins.registry)
        if behind is not None and location is not None:
            raise ConfigError(f"{target}: two locations, and --location is {location}; leave one out")
        location = location if behind is None else behind
    checked = [_checked(plugins, supplied) for supplied in found]
    return _paired(checked if location is None else _located(target, checked, location), plugins)


def found_plugins(switches: Sequence[str], modules: Sequence[str]) -> Plugins:
    """The installed plugins, those of the switches, and those of a folder."""
    plugins = discover((*switches, *modules))
    _refuse([failure for failure in plugins.registry.failures if failure.plugin in (*switches, *modules)], _place)
    return plugins


def _is_folder(target: str) -> bool:
    """A path is told by its separators, or by being there as a plugin's folder; NAME: begins none, to leave NAME:DIR alone."""
    if re.match(r"[a-z][a-z0-9-]*:", target):
        return False
    return "/" in target or target.startswith(".") or (bool(target) and (Path(target) / "pyproject.toml").is_file())


def _modules(folder: Path) -> tuple[str, ...]:
    path = folder / "pyproject.toml"
    if not folder.is_dir():
        found = "a file" if folder.exists() else "not there"
        raise ConfigError(f"{folder}: {found}; expected the folder of a plugin, with its pyproject.toml (dvgen new makes one)")
    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}; expected the folder of a plugin, with its pyproject.toml (dvgen new makes one)"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}; mend it, or begin anew with dvgen new") from None
    for name in ("project", "entry-points", GROUP):
        table = table.get(name) if isinstance(table, dict) else None
    if not isinstance(table, dict) or not table or not all(isinstance(value, str) for value in table.values()):
        raise ConfigError(f'{path}: no [project.entry-points.{GROUP}]; it names the plugin\'s module: my-vq = "dvgen_my_vq"')
    for name, value in table.items():
        if not all(part.isidentifier() for part in value.split(".")):
            raise ConfigError(f'{path}: entry point {name} is {value!r}; expected the name of a module, such as "dvgen_my_vq"')
    return tuple(table.values())


def _of_modules(target: str, plugins: Plugins, modules: Sequence[str]) -> list[Supplied]:
    names = {name for name, plugin in plugins.manager.list_name_plugin() if _module(plugin) in modules}
    found = [supplied for supplied in plugins.registry.supplied if supplied.plugin in names]
    if not found:
        raise ConfigError(f"{target}: its plugin supplies no component; dvgen_components, marked with @hookimpl, lists them")
    return found


def _named(target: str, registry: Registry) -> tuple[list[Supplied], str | None]:
    """What has a name, and the location behind that of a data set: a colon stands behind a kind, or behind a data set."""
    head, colon, rest = target.partition(":")
    if not colon:
        return _of_name(target, registry), None
    if head in KINDS and head != "dataset":
        return [registry.find(head, rest)], None
    name, behind, location = rest.partition(":") if head == "dataset" else (head, colon, rest)
    if head != "dataset" and name not in registry.names("dataset"):
        near = closest(head, (*KINDS, *registry.names("dataset")))
        raise ConfigError(f"{target!r}: {head!r} is no kind and no data set{near}; expected KIND:NAME or DATASET:DIR")
    if behind and not location:
        raise ConfigError(f"{target!r}: nothing stands behind the colon; expected where the data lie, as in {name}:DIR")
    return [registry.find("dataset", name)], location or None


def _of_name(target: str, registry: Registry) -> list[Supplied]:
    kinds = [kind for kind in KINDS if target in registry.names(kind)]
    if kinds:
        return [registry.find(kind, target) for kind in kinds]
    found = [s for s in registry.supplied if target in (s.plugin, s.distribution.partition(" ")[0])]
    failed = [f for f in registry.failures if target in (f.plugin, f.distribution.partition(" ")[0])]
    _refuse(failed)
    if not found:
        known = {word for s in registry.supplied for word in (s.component.name, s.plugin, s.distribution.partition(" ")[0])}
        failures = "".join(f". plugin {f.plugin!r} ({f.distribution}) failed to load: {f.reason}" for f in registry.failures)
        raise ConfigError(
            f"nothing named {target!r}{closest(target, known)}{_there(target)}; give a component, KIND:NAME, NAME:DIR of a data"
            f" set, a plugin, a distribution, or the folder of a plugin; `dvgen plugins` lists what there is{failures}"
        )
    return found


def _there(target: str) -> str:
    """What a target is that was taken for a name, in words; empty where nothing is there."""
    path = Path(target)
    if not target or not path.exists():
        return ""
    return f"; {target} is a {'folder without pyproject.toml' if path.is_dir() else 'file'}, and no plugin"


def _located(target: str, found: list[Checked], location: str) -> list[Checked]:
    """The data set among them at its location. Raises ConfigError unless there is one."""
    sets = [one for one in found if one.kind == "dataset"]
    if len(sets) != 1:
        what = "several data sets, each with a location of its own" if sets else "no data set, and nothing else has a location"
        raise ConfigError(f"{target}: {location!r} cannot be its location: it is {what}; name one data set")
    return [evolve(one, location=location) if one is sets[0] else one for one in found]


def _refuse(failed: Sequence[Failure], place: Callable[[str], str] = lambda _: "") -> None:
    if failed:
        lines = [f"plugin {f.plugin!r} ({f.distribution}) cannot be loaded: {f.reason}{place(f.plugin)}" for f in failed]
        raise PluginError("\n".join(lines))


def _place(module: str) -> str:
    """Where a module fails: it is imported, and its components listed, once more."""
    if find_spec(module.partition(".")[0]) is None:
        return "; the entry point in pyproject.toml names it, and neither the folder nor its src holds it"
    try:
        plugin: Any = importlib.import_module(module)
        list(plugin.dvgen_components())
    except (Exception, SystemExit) as error:
        found = place_of_error(error, package_of(module))
        return f"; at {found}: {found.text}" if found else ""
    return ""


def _checked(plugins: Plugins, supplied: Supplied) -> Checked:
    return Checked(plugins.registry, supplied, _module(plugins.manager.get_plugin(supplied.plugin)))


def _module(plugin: Any) -> str:
    return str(plugin.__name__)


def _paired(found: list[Checked], plugins: Plugins) -> list[Group]:
    """Every encoder with its decoder, and the other way round; each once."""
    made: list[Group] = []
    for one in found:
        if any(one in group for group in made):
            continue
        other = _other_half(one, plugins) if one.kind in PAIRS else None
        made.append((one,) if other is None else tuple(sorted((one, other), key=lambda c: c.kind, reverse=True)))
    return made


def _other_half(one: Checked, plugins: Plugins) -> Checked | None:
    """The decoder of an encoder's name, else one of the same plugin, and the other way round; None without one."""
    others = [s for s in plugins.registry.supplied if s.component.kind == PAIRS[one.kind]]
    same = [s for s in others if s.component.name == one.name]
    near = [s for s in others if s.plugin == one.supplied.plugin]
    for supplied in (*same, *near):
        return _checked(plugins, supplied)
    return None
