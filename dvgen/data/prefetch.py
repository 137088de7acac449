"""Reading the next batch while the present one is worked on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeVar, final

import torch
from torch import Tensor

T = TypeVar("T")


class _Announced(NamedTuple, Generic[T]):
    """What was announced, and what will come of it."""

    indices: Tensor
    loaded: Future[T]


@final
class Ahead(Generic[T]):
    """Loads what was announced in one background thread, and hands it over when it is taken.

    Nothing depends on it but time: `load` is a pure function of its indices, (b,) int64, that may be called from two
    threads at once, and everything it returns or raises comes out of `take`. What is held is at most one announced load.
    """

    def __init__(self, load: Callable[[Tensor], T]) -> None:
        self._load = load
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dvgen-ahead")  # it starts with the first announcement
        self._next: _Announced[T] | None = None

    def announce(self, indices: Tensor) -> None:
        """Begin to load these; what was announced before and not taken is dropped. Not for use after `close`."""
        if self._is_next(indices):
            return
        self._drop()
        kept = indices.clone()  # the caller may go on to write into its own
        self._next = _Announced(kept, self._thread.submit(self._load, kept))

    def take(self, indices: Tensor) -> T:
        """What `load` gives for these: waited for if they were announced, or loaded at once, in the calling thread.

        Raises what `load` raises.
        """
        if self._next is None or not self._is_next(indices):
            return self._load(indices)
        announced, self._next = self._next, None
        return announced.loaded.result()

    def close(self) -> None:
        """Drop what was announced and end the thread; a load that is under way is waited for."""
        self._drop()
        self._thread.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _is_next(self, indices: Tensor) -> bool:
        return self._next is not None and torch.equal(self._next.indices, indices)

    def _drop(self) -> None:
        if self._next is not None:
            self._next.loaded.cancel()  # one that has begun goes on, and nobody will look at what comes of it
            self._next = None
