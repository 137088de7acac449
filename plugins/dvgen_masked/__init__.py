"""A masked prior over codes (MaskGIT, Chang et al., 2022)."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The prior `masked`."""
    return [Component("prior", "masked", "dvgen_masked.prior:Masked", "bidirectional transformer that fills in hidden codes")]
