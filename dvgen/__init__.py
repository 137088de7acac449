"""dvgen: interchangeable parts for discrete generative models, and one honest comparison of them.

A plugin needs two names from here: `Component` (what it supplies) and `hookimpl` (marks its hooks).
"""

import pluggy

from dvgen.registry import Component

__version__ = "0.1.0"
hookimpl = pluggy.HookimplMarker("dvgen")

__all__ = ["Component", "__version__", "hookimpl"]
