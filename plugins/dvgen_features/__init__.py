"""Feature extractors, in whose space sets of images are compared."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The features `rand`, `clf`, `inception`, `inception-pt` and `dinov2`."""
    return [
        Component(
            "features",
            "rand",
            "dvgen_features.rand:RandomFeatures",
            "three fixed random networks, the same everywhere; no file",
        ),
        Component(
            "features", "clf", "dvgen_features.clf:ClassifierFeatures", "a small classifier of the training split; needs labels"
        ),
        Component(
            "features", "inception", "dvgen_features.inception:Inception", "the 2015 Inception network of FID; needs its file"
        ),
        Component(
            "features",
            "inception-pt",
            "dvgen_features.inception:InceptionOfPyTorchFID",
            "the same network with the resize of pytorch-fid; needs the file of `inception`",
        ),
        Component(
            "features", "dinov2", "dvgen_features.dinov2:DINOv2Features", "the vision transformer of FD-DINOv2; needs its file"
        ),
    ]
