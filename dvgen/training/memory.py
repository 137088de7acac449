"""Whether an error means that memory was not enough. Imports no torch."""

import errno
import re

_SAID = re.compile(
    r"out of memory|not enough memory|can't allocate memory|cannot allocate memory|_STATUS_ALLOC_FAILED", re.IGNORECASE
)
"""How CUDA, MPS, the allocator of torch's CPU tensors, cuBLAS and cuDNN say it; all but CUDA in a plain RuntimeError."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the host or on a device."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _SAID.search(str(error)) is not None


def in_short(error: BaseException) -> str:
    """The sentence that says what could not be allocated: CUDA has a paragraph of advice behind it, others a place before."""
    sentences = re.split(r"\.\s+", " ".join(str(error).split()))
    return next(filter(_SAID.search, sentences), sentences[0]).rstrip(".") or type(error).__name__
