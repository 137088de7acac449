"""Moving a batch from the host to the device that trains."""

import torch
from torch import Tensor


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor in memory from which the device can copy by itself; as it is where there is no such memory, or no need."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device, without waiting for what the device was given before."""
    # a copy from ordinary memory waits on CUDA, and elsewhere may not be told to be asynchronous: the source may go first
    return pinned(tensor, device).to(device, non_blocking=device.type == "cuda")
