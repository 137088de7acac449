"""Features of a classifier that is trained on the data at hand: what tells its classes apart, whatever the data are."""

from collections.abc import Callable
from typing import Any, final

import torch
from attrs import field, frozen
from attrs.validators import ge
from torch import Tensor, nn

from dvgen.blocks.classifier import BATCH, FEATURES, SmallClassifier, train_classifier
from dvgen.blocks.signed_weights import weights_hash
from dvgen.errors import ConfigError, ShapeError
from dvgen.interfaces.data import Dataset
from dvgen.interfaces.features import Features

RECIPE = "clf:cnn64"
"""The network and how it is trained, without the data: another recipe needs another name."""
LEAST = 16
SEED = 1
ROUNDS = 20
"""How often a small training split is seen at most: more teaches its images by heart."""


@final
class ClassifierFeatures(Features):
    """Images of at least 16 x 16 to the 64 values before the logits of a small classifier of the training split's labels.

    They notice missing and confused classes more than random features do, and low-level noise less; so did LeNet's in the
    scores of Binkowski et al. 2018 (arXiv 1801.01401) for MNIST. The weights are learned by `train_classifier`, always
    with the same seed, and a little differently on every kind of machine. The label carries the start of their SHA-256,
    because distances compare only with distances of the same weights. In use they are float64: the batch size does not
    show.
    """

    @frozen(kw_only=True)
    class Config:
        """steps: of training, on 128 images each, and at most what shows every image 20 times."""

        steps: int = field(default=400, validator=ge(1))

    dim = FEATURES
    label = RECIPE
    weights_hash = ""
    learned = True

    def __init__(self, config: Config, *, channels: int) -> None:
        super().__init__()
        self.config, self.channels = config, channels
        with torch.device("meta"):  # nothing is drawn: the weights come from `fit` or from a file
            self.network = _without_logits(SmallClassifier(channels, classes=2))
        self.network.to_empty(device="cpu").requires_grad_(False)
        for tensor in self.network.state_dict().values():
            tensor.zero_()
        self.network.double()
        self.register_load_state_dict_post_hook(_name)
        self.train(False)

    @classmethod
    def tiny(cls) -> Config:
        return cls.Config(steps=2)

    def train(self, mode: bool = True) -> "ClassifierFeatures":
        """Stay in evaluation mode: batch statistics would make a feature depend on its batch."""
        return super().train(False)

    def fit(self, dataset: Dataset, indices: Tensor, pause: Callable[[], None]) -> None:
        classes = len(dataset.classes)
        if len(dataset.labels[indices].unique()) < 2:
            raise ConfigError(
                "features 'clf' learn to tell classes apart, and the training split has only one; leave them out, or use "
                "data with labels"
            )
        self._check(torch.Size((len(indices), *dataset.shape)))
        device = next(self.network.parameters()).device

        def batches(rows: Tensor) -> tuple[Tensor, Tensor]:
            chosen = indices[rows]
            return dataset.signals(chosen.tolist()).to(device), dataset.labels[chosen]

        steps = min(self.config.steps, ROUNDS * -(-len(indices) // BATCH))
        trained = train_classifier(
            batches, len(indices), channels=self.channels, classes=classes, steps=steps, seed=SEED, pause=pause
        )
        self.network.load_state_dict(_without_logits(trained).state_dict())
        _name(self)

    def forward(self, signals: Tensor) -> Tensor:
        self._check(signals.shape)
        if not self.weights_hash:
            raise ConfigError("features 'clf' have learned nothing yet; call fit, or load weights that it left")
        return self.network.features(signals.double())

    def _check(self, shape: torch.Size) -> None:
        if len(shape) != 4 or shape[1] != self.channels or min(shape[2:]) < LEAST:
            raise ShapeError(
                f"features 'clf' expected images (b, {self.channels}, h, w) of at least {LEAST} x {LEAST}, got {tuple(shape)}"
            )


def _name(features: Any, _: object = None) -> None:
    """Name features by the weights that they now have."""
    features.weights_hash = weights_hash(features.network.state_dict().values())
    features.label = f"{RECIPE}@{features.weights_hash[:8]}"


def _without_logits(network: SmallClassifier) -> SmallClassifier:
    """Without its last layer, so that its state has the same shapes whatever the classes."""
    network.last = nn.Identity()
    return network
