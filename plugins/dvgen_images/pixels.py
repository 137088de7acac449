"""8-bit pixels: their values as signals, and the hash of a set of them."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def to_signals(pixels: Tensor) -> Tensor:
    """Float32 in [-1, 1] from uint8 of any shape; 0 becomes -1 and 255 becomes 1, exactly, and all 256 values are distinct."""
    return pixels.float() / 127.5 - 1


def digest_pixels(name: str, pixels: Tensor, labels: Tensor, classes: Sequence[str]) -> str:
    """SHA-256 (hex) of a set held in memory: pixels uint8 (n, c, h, w), labels (n,), the names of the classes."""
    hashed = hashlib.sha256(f"{name}/{tuple(pixels.shape)}/{'/'.join(classes)}/".encode())
    hashed.update(pixels.contiguous().numpy().data)
    hashed.update(labels.to(torch.uint8).numpy().data)
    return hashed.hexdigest()
