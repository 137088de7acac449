"""A plugin whose component cannot be imported: `-p broken_component`."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """A prior whose module does not exist."""
    return [Component("prior", "broken", "no_such_module:Prior", "cannot be imported")]
