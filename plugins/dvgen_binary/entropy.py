"""How certain features are of their bits, and how evenly codes are used: entropies of a softmax over all codes, in nats.

The codes are the corners of a cube, and the probability of a code falls with its squared distance from the feature. Distances
add up over channels, so the bits are independent given the feature, and nothing of the size of the codebook is needed.

Shapes: n rows, d bits, g bits of a group.
"""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from dvgen.blocks.across_ranks import sum_over_ranks
from dvgen.blocks.entropy import entropy
from dvgen.blocks.rows import Rows


def bit_entropy(log_odds: Tensor) -> Tensor:
    """The entropy of bits with these log odds x, of the same shape: softplus(x) - x sigmoid(x).

    An even function of x. For -|x| both terms are positive, and small where the entropy is: nothing cancels or overflows.
    """
    size = log_odds.abs()
    return F.softplus(-size) + size * (-size).sigmoid()


def mean_entropies(rows: Rows, log_odds: Tensor, group: int, training: bool) -> tuple[Tensor, Tensor]:
    """The mean entropy of a row's code, and the entropy of the mean distribution of codes; log odds (n, d) of the bits.

    Both are over the valid rows of all ranks, and 0 when there are none. The first is exact. The second is a sum over groups
    of g bits, d being a multiple of g: joint within a group, an upper bound of the joint entropy of all bits (equal if the
    groups are independent), exact when g = d. Memory O(n d 2^g / g). LFQ (Yu et al., 2023), section 3; BSQ (Zhao
    et al., 2024), section 4.
    """
    count = rows.number()
    local = torch.cat([rows.average(_group_probabilities(log_odds, group)), rows.mean(_row_entropy(log_odds)).view(1)])
    # sums, and the number of rows with them: ranks may hold parts of different sizes
    total = sum_over_ranks(torch.cat([local * count, count.view(1)]), training)
    means = total[:-1] / total[-1].clamp(min=1)
    return means[-1], entropy(means[:-1])


def _row_entropy(log_odds: Tensor) -> Tensor:
    """The entropy of each row's code (n,)."""
    return bit_entropy(log_odds).sum(dim=1)


def _group_probabilities(log_odds: Tensor, group: int) -> Tensor:
    """The probabilities of the 2^g combinations in each group: (n, d/g * 2^g), the first bit of a group slowest."""
    bits = rearrange(torch.stack([-log_odds, log_odds]).sigmoid(), "two n (k g) -> g n k two", g=group)
    joint = bits[0]
    for bit in bits[1:]:
        joint = rearrange(joint.unsqueeze(3) * bit.unsqueeze(2), "n k a two -> n k (a two)")
    return joint.flatten(1)
