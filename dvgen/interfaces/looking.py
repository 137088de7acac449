"""Whether Python may look at the values in tensors: for that, the host waits until the device has computed them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_UNSEEN = ContextVar("unseen", default=False)


@contextmanager
def unseen() -> Iterator[None]:
    """In this block nothing looks at values: a training step on an accelerator, which the host runs ahead of."""
    token = _UNSEEN.set(True)
    try:
        yield
    finally:
        _UNSEEN.reset(token)


def may_look() -> bool:
    """False in compiled code and where values are `unseen`: bad ones are then not raised for, but told in `stats`."""
    return not torch.compiler.is_compiling() and not _UNSEEN.get()
