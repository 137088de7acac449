"""dvgen: interchangeable parts for discrete generative models, and one honest comparison of them.

A plugin needs two names from here: `Component` (what it supplies) and `hookimpl` (marks its hooks). A component that is
composed of others declares them with `part`, in fields of type `Part`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pluggy

    from dvgen.parts import Part, part
    from dvgen.registry import Component

    hookimpl = pluggy.HookimplMarker("dvgen")

__version__ = "0.1.0"

__all__ = ["Component", "Part", "__version__", "hookimpl", "part"]


def __getattr__(name: str) -> object:
    """The other names, made when they are first asked for: `dvgen --help` needs none of them, nor attrs, nor pluggy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pluggy

    from dvgen.parts import Part, part
    from dvgen.registry import Component

    globals().update(Component=Component, Part=Part, hookimpl=pluggy.HookimplMarker("dvgen"), part=part)
    return globals()[name]
