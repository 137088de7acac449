"""Weights of fixed random networks, the same on every machine and in every version."""

import hashlib
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def signed_weights(purpose: str, shape: tuple[int, ...]) -> Tensor:
    """Weights +-sqrt(2 / fan_in), float64; bit i of the stream SHA-256(purpose/0), SHA-256(purpose/1), ... set means +."""
    size = math.prod(shape)
    blocks = (hashlib.sha256(f"{purpose}/{block}".encode()).digest() for block in range(math.ceil(size / 256)))
    bits = np.unpackbits(np.frombuffer(b"".join(blocks), dtype=np.uint8))[:size]
    scale = math.sqrt(2 / math.prod(shape[1:]))
    return torch.from_numpy((2.0 * bits - 1.0) * scale).reshape(shape)


def weights_hash(weights: Iterable[Tensor]) -> str:
    """SHA-256 (hex) of the values of tensors in their order, as little-endian float64."""
    hashed = hashlib.sha256()
    for tensor in weights:
        hashed.update(tensor.detach().cpu().numpy().astype("<f8").tobytes())
    return hashed.hexdigest()
