"""Sets of images: drawn by the program, read from the files of MNIST and CIFAR-10, or from a folder."""

from dvgen import Component, hookimpl


@hookimpl
def dvgen_components() -> list[Component]:
    """The data sets `shapes`, `mnist`, `cifar10` and `folder`."""
    return [
        Component("dataset", "shapes", "dvgen_images.shapes:Shapes", "scenes of two shapes that agree, drawn by dvgen; finite"),
        Component("dataset", "mnist", "dvgen_images.mnist:MNIST", "mnist:DIR with the four idx files, gzipped or not"),
        Component(
            "dataset", "cifar10", "dvgen_images.cifar10:CIFAR10", "cifar10:DIR with the python batches, or an image tree"
        ),
        Component("dataset", "folder", "dvgen_images.folder:Folder", "folder:DIR, any tree of images; class = sub-folder"),
    ]
