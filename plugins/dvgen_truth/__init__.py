"""Sources of codes whose probability is known exactly, for proving priors."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """Nothing yet."""
    return []
