"""A small convolutional classifier and its one recipe: for features of a data set, and for judging labelled samples by it."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, relu

FEATURES = 64
LARGEST = 64
BATCH = 128
LEARNING_RATE = 3e-3
WARMUP = 0.1
"""Share of the steps in which the learning rate rises; it then falls to 0 along a straight line."""
WEIGHT_DECAY = 0.05

Batches = Callable[[Tensor], tuple[Tensor, Tensor]]


class SmallClassifier(nn.Module):
    """Images (b, channels, h, w) in [-1, 1] of at least 16 x 16 to logits (b, classes), by way of 64 features.

    Three 3x3 convolutions, the first two of stride 2, with batch normalisation and ReLU; averaged to 4x4; a linear layer
    with ReLU gives the features, another one the logits. Images of more than 64 pixels across are averaged down to 64
    first: what a class looks like is seen there, and the cost stays small.
    """

    def __init__(self, channels: int, classes: int, width: int = 32) -> None:
        super().__init__()
        widths = (channels, width, 2 * width, 2 * width)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
            for before, after, stride in zip(widths, widths[1:], (2, 2, 1), strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(after) for after in widths[1:])
        self.penultimate = nn.Linear(widths[-1] * 4 * 4, FEATURES)
        self.last: nn.Module = nn.Linear(FEATURES, classes)

    def features(self, signals: Tensor) -> Tensor:
        """What the logits are a linear function of: (b, 64), not negative."""
        h, w = signals.shape[2:]
        x = adaptive_avg_pool2d(signals, (min(h, LARGEST), min(w, LARGEST))) if max(h, w) > LARGEST else signals
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = relu(norm(convolution(x)))
        pooled = rearrange(adaptive_avg_pool2d(x, (4, 4)), "b c h w -> b (c h w)")
        return relu(self.penultimate(pooled))

    def forward(self, signals: Tensor) -> Tensor:
        """Logits (b, classes)."""
        return self.last(self.features(signals))


@torch.enable_grad()
def train_classifier(
    batches: Batches, n: int, *, channels: int, classes: int, steps: int, seed: int, pause: Callable[[], None]
) -> SmallClassifier:
    """A classifier after `steps` steps on n labelled images, in evaluation mode; a function of its arguments alone.

    batches: indices (b,) int64 in [0, n) to signals (b, channels, h, w) and labels (b,); the classifier is trained where
    the signals are. Every image is seen once before any is seen again. `pause` is called before every step, and may raise
    to stop. AdamW on cross-entropy, batches of 128. torch's global random state is neither read nor moved.
    """
    model = _initial(channels, classes, seed).train()
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups)
    for step, indices in enumerate(islice(_order(n, seed), steps)):
        pause()
        signals, labels = batches(indices)
        model.to(signals.device)
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * min((step + 1) / (WARMUP * steps), (steps - step) / ((1 - WARMUP) * steps), 1.0)
        optimiser.zero_grad()
        cross_entropy(model(signals), labels.to(signals.device)).backward()
        optimiser.step()
    return model.eval()


def _initial(channels: int, classes: int, seed: int) -> SmallClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would move the accelerators' states, too
        return SmallClassifier(channels, classes)


def _order(n: int, seed: int) -> Iterator[Tensor]:
    """Batches of indices for ever, one random order of all n after the other."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(n, generator=generator).split(BATCH)
