"""A codebook from data by Lloyd's algorithm, in which every code is used.

Shapes: n features, k codes, d width.
"""

import torch
from einops import rearrange
from torch import Tensor

from dvgen.blocks.codebook import sampled_codebook
from dvgen.blocks.nearest import nearest

ITERATIONS = 10
"""Steps of Lloyd's algorithm: the first few take most of what there is to gain, and the features that a codebook starts from
are those of an untrained encoder, which soon moves on. Each step is one search, and with many codes the search is the cost."""

GAIN = 1e-3
"""The search ends with a step that lowered the error by less than this part of it."""

ROUNDS = 8
"""How often codes that a move left without features are placed anew before the move is given up; one or two are usual."""


@torch.no_grad()
def kmeans_codebook(z: Tensor, num_codes: int, iterations: int = ITERATIONS) -> Tensor:
    """A codebook (k, d) for features z (n, d): `sampled_codebook`, improved by at most `iterations` steps of Lloyd's algorithm.

    Every code is the nearest of some feature, so no two are equal, and the mean squared distance is never above that of the
    start: a step that does not lower it is not taken. A code that loses its features is placed on one that is far from its
    code. Where there are at most k different features, the start already has them all. Lloyd, 1982; Linde, Buzo and Gray, 1980.
    Raises ShapeError when z has no rows and NonFiniteError for a value that is not finite.
    """
    codebook = sampled_codebook(z, num_codes)
    # equal features are one feature with a weight: two of them cannot give two codes a place
    features, weights = torch.unique(z.to(codebook.dtype), dim=0, return_counts=True)
    if len(features) <= num_codes:
        return codebook
    codes = nearest(features, codebook).codes
    least = (_errors(features, codebook, codes) * weights).sum()
    for _ in range(iterations):
        moved = _means(features, weights, codes, codebook)
        codes = nearest(features, moved).codes
        errors = _errors(features, moved, codes)
        all_used = _place_unused(features, moved, codes, errors)
        error = (errors * weights).sum()
        if not (all_used and bool(error < least)):
            break
        converged = bool(error > (1 - GAIN) * least)
        codebook, least = moved, error
        if converged:
            break
    return codebook


def _errors(features: Tensor, codebook: Tensor, codes: Tensor) -> Tensor:
    """Squared distances of features from their codes, in float64: (n,). Small ones would underflow in float32."""
    return (features.double() - codebook[codes].double()).square().sum(dim=1)


def _means(features: Tensor, weights: Tensor, codes: Tensor, codebook: Tensor) -> Tensor:
    """The mean feature of every code, summed in float64; all codes are used. Taken from the code, so that an offset cancels."""
    k, d = codebook.shape
    steps = (features.double() - codebook[codes].double()) * rearrange(weights, "n -> n 1")
    sums = steps.new_zeros(k, d).index_add_(0, codes, steps)
    counts = sums.new_zeros(k).index_add_(0, codes, weights.double())
    return (codebook.double() + sums / rearrange(counts, "k -> k 1")).to(codebook.dtype)


def _place_unused(features: Tensor, codebook: Tensor, codes: Tensor, errors: Tensor) -> bool:
    """Move codes without features onto the features farthest from their codes, until every code is used; returns whether it is.

    Writes codebook, codes and errors. A feature has one code on it at most, because all features are different and one that a
    code stands on has no error. Taking a feature may leave another code without any, so this is done in rounds; the sum of
    errors falls in each.
    """
    for _ in range(ROUNDS):
        unused = (torch.bincount(codes, minlength=len(codebook)) == 0).nonzero().squeeze(1)
        if not len(unused):
            return True
        codebook[unused] = features[errors.topk(len(unused)).indices]
        # the others stand where they stood, so only the new ones have to be searched
        own = unused[nearest(features, codebook[unused]).codes]
        found = _errors(features, codebook, own)
        nearer = (found < errors) | ((found == errors) & (own < codes))
        codes.copy_(torch.where(nearer, own, codes))
        errors.copy_(torch.where(nearer, found, errors))
    return False
