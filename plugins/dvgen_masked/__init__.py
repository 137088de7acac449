"""A masked prior over codes (MaskGIT, Chang et al., 2022)."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """Nothing yet."""
    return []
