"""dvgen: interchangeable parts for discrete generative models, and one honest comparison of them.

A plugin needs two names from here: `Component` (what it supplies) and `hookimpl` (marks its hooks). A component that is
composed of others declares them with `part`, in fields of type `Part`.
"""

import pluggy

from dvgen.parts import Part, part
from dvgen.registry import Component

__version__ = "0.1.0"
hookimpl = pluggy.HookimplMarker("dvgen")

__all__ = ["Component", "Part", "__version__", "hookimpl", "part"]
