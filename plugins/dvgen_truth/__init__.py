"""Sources of codes whose probability is known exactly, for proving priors."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The code sources `markov`, `noisy-copy`, `potts-8x8`, `quadtree`, `top-bottom`, and the prior `oracle`."""
    sources = {
        "markov": ("markov:MarkovRaster", "every code depends on the one before it"),
        "noisy-copy": ("noisy_copy:NoisyCopy", "the second half is the first in another order, with errors"),
        "potts-8x8": ("potts:Potts", "neighbours are alike, and no side comes first"),
        "quadtree": ("quadtree:QuadTree", "the leaves of a hidden tree: dependence at every distance"),
        "top-bottom": ("top_bottom:TopBottom", "two levels, the second a noisy function of the first"),
    }
    components = [Component("code-source", name, f"dvgen_truth.{target}", what) for name, (target, what) in sources.items()]
    return [
        *components,
        Component("prior", "oracle", "dvgen_truth.oracle:Oracle", "the source itself, which no prior can beat"),
    ]
