"""The two usual pairs of losses of the adversarial game, from the discriminator's logits. Large logits mean real."""

from typing import final

from attrs import frozen
from torch import Tensor
from torch.nn.functional import relu, softplus

from dvgen.interfaces.loss import AdversarialLoss


@final
class HingeLoss(AdversarialLoss):
    """D: 1/2 (mean max(0, 1 - real) + mean max(0, 1 + fake)). G: -mean fake. The pair that VQGAN was trained with.

    Lim and Ye 2017 (Geometric GAN, arXiv 1705.02894), section 3; the half is that of VQGAN's released code. D is 1 while
    the discriminator knows nothing, and 0 once every logit stands on its side of the margin: then it stops learning.
    """

    @frozen(kw_only=True)
    class Config:
        """Nothing to set."""

    def __init__(self, config: Config) -> None:
        super().__init__()

    def generator(self, fake: Tensor) -> Tensor:
        return -fake.mean()

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return (relu(1 - real).mean() + relu(1 + fake).mean()) / 2


@final
class NonSaturatingLoss(AdversarialLoss):
    """D: mean softplus(-real) + mean softplus(fake). G: mean softplus(-fake).

    With D = sigmoid(logit) these are -mean log D(real) - mean log(1 - D(fake)), minus the value of the game in equation 1
    of Goodfellow et al. 2014, and -mean log D(fake), the generator's loss that their section 3 advises. A sum as there,
    with no half: D is 2 log 2 while the discriminator knows nothing, where the hinge loss is 1.
    Softplus does not overflow where log(sigmoid) would.
    """

    @frozen(kw_only=True)
    class Config:
        """Nothing to set."""

    def __init__(self, config: Config) -> None:
        super().__init__()

    def generator(self, fake: Tensor) -> Tensor:
        return softplus(-fake).mean()

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return softplus(-real).mean() + softplus(fake).mean()
