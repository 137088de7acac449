"""Find and admit plugins: our own loader over entry points, because pluggy's stops at the first broken plugin. No torch."""

import importlib
import os
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import Distribution, entry_points
from typing import Any

import pluggy
from attrs import frozen

from dvgen import hookspecs
from dvgen.errors import ConfigError
from dvgen.registry import Component, Failure, Registry, Supplied, closest

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
            except Exception as error:
                name = implementation.plugin_name
                warnings.warn(f"plugin {name!r}: {hook} failed: {type(error).__name__}: {error}", stacklevel=2)
                self.manager.unregister(name=name)


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
        found = {(e.name, e.value, e.dist.name if e.dist else ""): e for e in entry_points(group=GROUP)}
        for (name, _, distribution), entry in sorted(found.items()):
            seen |= {name, distribution}
            if not {name, distribution} & blocked:
                _admit(plugins, name, entry.load, entry.dist)
    for module in (switch for switch in switches if not switch.startswith("no:")):
        _admit(plugins, module, lambda module=module: importlib.import_module(module), None)  # type: ignore[misc]
    if unused := sorted(blocked - seen):
        raise ConfigError(f"-p no:{unused[0]}: no plugin or distribution of that name{closest(unused[0], seen)}")
    return plugins


def _admit(plugins: Plugins, name: str, load: Callable[[], Any], distribution: Distribution | None) -> None:
    """Register one plugin, all of it or nothing; what goes wrong is recorded, because it is third-party code."""
    manager = plugins.manager
    label = f"{distribution.name} {distribution.version}" if distribution else "not installed"
    unique = f"{name}@{distribution.name}" if manager.has_plugin(name) and distribution else name
    try:
        manager.register(load(), name=unique)
        manager.check_pending()
        implementations = [i for i in manager.hook.dvgen_components.get_hookimpls() if i.plugin_name == unique]
        components = [component for i in implementations for component in i.function()]
        for component in components:
            _check(component)
    except (Exception, SystemExit) as error:
        if manager.has_plugin(unique):
            manager.unregister(name=unique)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        plugins.registry.failures.append(Failure(unique, label, reason))
    else:
        plugins.registry.supplied += [Supplied(component, unique, label) for component in components]


def _check(component: object) -> None:
    if not isinstance(component, Component):
        raise TypeError(f"dvgen_components must return Component records, not {component!r}")
