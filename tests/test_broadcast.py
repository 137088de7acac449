"""Events reach every observer on its own, and none of them can stop a run."""

from types import SimpleNamespace
from typing import Any

import pluggy
import pytest

from dvgen import hookimpl, hookspecs
from dvgen.discovery import Plugins
from dvgen.registry import Registry


def plugins_of(**implementations: Any) -> Plugins:
    """Plugins by name, each with one implementation of `dvgen_step`."""
    manager = pluggy.PluginManager("dvgen")
    manager.add_hookspecs(hookspecs)
    for name, implementation in implementations.items():
        implementation.__name__ = "dvgen_step"
        manager.register(SimpleNamespace(dvgen_step=hookimpl(implementation)), name=name)
    return Plugins(manager, Registry())


def test_an_observer_that_raises_costs_one_warning_and_the_others_are_told():
    told: list[int] = []

    def bad(step: int) -> None:
        raise SystemExit("bye") if step == 1 else AssertionError("told again")

    plugins = plugins_of(before=lambda step: told.append(step), bad=bad, after=lambda step: told.append(-step))
    with pytest.warns(UserWarning, match="plugin 'bad': dvgen_step failed, its events stop: SystemExit: bye") as warned:
        plugins.broadcast("dvgen_step", run=None, step=1, values={})
    plugins.broadcast("dvgen_step", run=None, step=2, values={})  # a second warning would be an error
    assert len(warned) == 1
    assert sorted(told) == [-2, -1, 1, 2]


def test_an_observer_takes_the_arguments_it_names():
    told: list[Any] = []
    plugins = plugins_of(values=lambda values: told.append(values), none=lambda: told.append("nothing"))
    plugins.broadcast("dvgen_step", run=None, step=1, values={"loss": 0.5})
    assert {"loss": 0.5} in told
    assert "nothing" in told


def test_ctrl_c_in_an_observer_stops_the_run():
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plugins_of(interrupted=interrupted).broadcast("dvgen_step", run=None, step=1, values={})
