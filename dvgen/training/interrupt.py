"""Stop requests: the first Ctrl-C (or SIGTERM) asks, the second one insists."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dvgen.errors import Stopped


class StopRequest:
    """Whether somebody asked to stop; work checks it where it can stop without loss."""

    def __init__(self) -> None:
        self.asked = False

    def check(self, where: str) -> None:
        """Raise Stopped when a stop was asked for. `where` says what is complete so far."""
        if self.asked:
            raise Stopped(f"stopped on request: {where}")


@contextmanager
def stop_on_signal(tell: Callable[[str], None]) -> Iterator[StopRequest]:
    """A request that SIGINT and SIGTERM set, telling the user so; a second SIGINT raises KeyboardInterrupt at once."""
    request = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        if request.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not request.asked:
            tell("stopping where nothing is lost; Ctrl-C again stops at once")
        request.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
