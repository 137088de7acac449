"""Find and admit plugins: our own loader over entry points, because pluggy's stops at the first broken plugin. No torch."""

import importlib
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from importlib.metadata import Distribution, entry_points
from typing import Any

import pluggy
from attrs import frozen

from dvgen import hookspecs
from dvgen.errors import ConfigError
from dvgen.registry import Component, Failure, Registry, Supplied, closest, describe

GROUP = "dvgen"


@frozen
class Plugins:
    """The admitted plugins: what they supply, and the manager that reaches their hooks."""

    manager: pluggy.PluginManager
    registry: Registry

    def broadcast(self, hook: str, **arguments: Any) -> None:
        """Call every implementation of an event on its own; one that raises costs one warning and never the run."""
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            try:
                implementation.function(**{name: arguments[name] for name in implementation.argnames})
            except (Exception, SystemExit) as error:
                name = implementation.plugin_name
                self.manager.unregister(name=name)
                warnings.warn(f"plugin {name!r}: {hook} failed, its events stop: {describe(error)}", stacklevel=2)


def discover(switches: Sequence[str] = ()) -> Plugins:
    """Admit every installed plugin, and obey the -p switches.

    `switches`: "no:NAME" blocks a plugin or a distribution, "MODULE" admits an importable module that is not installed.
    `DVGEN_PLUGIN_AUTOLOAD=0` leaves installed plugins out. Raises ConfigError when a "no:NAME" matches nothing.
    """
    blocked = {switch.removeprefix("no:") for switch in switches if switch.startswith("no:")}
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    plugins = Plugins(manager, Registry())
    seen: set[str] = set()
    if os.environ.get("DVGEN_PLUGIN_AUTOLOAD", "1") != "0":
        about = cache(_about)  # reading the metadata of a distribution costs a millisecond; one may have twenty plugins
        found = {(e.name, e.value, about(e.dist)[0]): e for e in entry_points(group=GROUP)}
        for (name, _, distribution), entry in sorted(found.items()):
            seen |= {name, distribution}
            if not {name, distribution} & blocked:
                _admit(plugins, _unique(manager, name, distribution), entry.load, about(entry.dist)[1])
    for module in (switch for switch in switches if not switch.startswith("no:")):
        _admit(plugins, _unique(manager, module, "-p"), partial(importlib.import_module, module), "not installed")
    if unused := sorted(blocked - seen):
        raise ConfigError(f"-p no:{unused[0]}: no plugin or distribution of that name{closest(unused[0], seen)}")
    return plugins


def _about(distribution: Distribution | None) -> tuple[str, str]:
    """The name of a distribution, "unknown" for a damaged one, and "name version"."""
    if distribution is None:
        return "unknown", "unknown"
    name = distribution.name or "unknown"
    return name, f"{name} {distribution.version}"


def _unique(manager: pluggy.PluginManager, name: str, origin: str) -> str:
    """The plugin's name, with its origin when another plugin has that name already; both stay listed."""
    while manager.has_plugin(name):
        name = f"{name}@{origin}"
    return name


def _admit(plugins: Plugins, name: str, load: Callable[[], Any], distribution: str) -> None:
    """Register one plugin, all of it or nothing; what goes wrong is recorded, because it is third-party code."""
    manager = plugins.manager
    try:
        plugin = load()
        if manager.is_registered(plugin):  # under another name, such as -p MODULE of an installed plugin
            return
        manager.register(plugin, name=name)
        manager.check_pending()
        implementations = [i for i in manager.hook.dvgen_components.get_hookimpls() if i.plugin_name == name]
        components = [component for i in implementations for component in _listed(i.function())]
    except (Exception, SystemExit) as error:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        plugins.registry.failures.append(Failure(name, distribution, describe(error)))
    else:
        plugins.registry.supplied += [Supplied(component, name, distribution) for component in components]


def _listed(returned: Any) -> list[Component]:
    """What `dvgen_components` returned, checked."""
    components = list(returned) if isinstance(returned, Iterable) else None
    if components is None or not all(isinstance(component, Component) for component in components):
        raise TypeError(f"dvgen_components must return a list of Component records, not {returned!r}")
    return components
