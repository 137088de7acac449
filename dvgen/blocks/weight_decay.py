"""Groups for the optimiser: which parameters weight decay is for."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Groups = list[dict[str, Any]]


def decayed_weights(model: nn.Module) -> Groups:
    """Weight decay on the weights of convolutions and linear layers; none on biases, norms and embeddings.

    A weight is known by its two or more axes, so that a layer of one's own with such a parameter is served too.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return _groups(model, lambda parameter: parameter.ndim > 1 and id(parameter) not in tables)


def decayed_linear_weights(model: nn.Module) -> Groups:
    """Weight decay on the weights of Linear layers alone, as GPT-2 was trained: convolutions of the context have none."""
    chosen = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    return _groups(model, lambda parameter: id(parameter) in chosen)


def _groups(model: nn.Module, decays: Callable[[Tensor], bool]) -> Groups:
    """Every trainable parameter once, in the model's order: those that decay, then the others."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    spared = [parameter for parameter in trainable if not decays(parameter)]
    return [{"params": [parameter for parameter in trainable if decays(parameter)]}, {"params": spared, "weight_decay": 0.0}]
