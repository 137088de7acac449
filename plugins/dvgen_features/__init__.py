"""Feature extractors for the Frechet distance."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The features `rand` and `inception`."""
    return [
        Component(
            "features", "rand", "dvgen_features.rand:RandomFeatures", "a fixed random network, the same everywhere; no file"
        ),
        Component(
            "features", "inception", "dvgen_features.inception:Inception", "the 2015 Inception network of FID; needs its file"
        ),
    ]
