"""Reading ahead changes when a batch is loaded, and nothing else."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dvgen.data.prefetch import Ahead

WAIT = 30.0
"""Seconds after which a test that would hang fails instead."""
FIRST, SECOND, THIRD = (torch.tensor([i, i + 1]) for i in (0, 10, 20))


class Gate:
    """A load that says what it was asked for, by which thread, and stops at the gate where told to."""

    def __init__(self, *stops: Tensor) -> None:
        self.stops = [stop.tolist() for stop in stops]
        self.asked: list[list[int]] = []
        self.threads: list[threading.Thread] = []
        self.begun = threading.Event()
        self.opened = threading.Event()

    def __call__(self, indices: Tensor) -> Tensor:
        self.asked.append(indices.tolist())
        self.threads.append(threading.current_thread())
        if indices.tolist() in self.stops:
            self.begun.set()
            assert self.opened.wait(WAIT)
        return indices * 2


def elsewhere(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def test_what_was_announced_is_loaded_in_another_thread_before_it_is_taken() -> None:
    """The load is under way while the caller does something else; it happens once, and the result is that of the load."""
    load = Gate(FIRST)
    with Ahead(load) as ahead:
        ahead.announce(FIRST)
        assert load.begun.wait(WAIT)
        load.opened.set()
        assert ahead.take(FIRST).tolist() == [0, 2]
    assert load.asked == [FIRST.tolist()]
    assert load.threads[0] is not threading.current_thread()


def test_take_waits_for_a_load_under_way() -> None:
    """Nothing comes out of take before the load has ended, and it is not loaded a second time."""
    load = Gate(FIRST)
    taken: list[Tensor] = []
    with Ahead(load) as ahead:
        ahead.announce(FIRST)
        assert load.begun.wait(WAIT)
        taker = elsewhere(lambda: taken.append(ahead.take(FIRST)))
        assert not taken
        load.opened.set()
        taker.join(WAIT)
    assert [t.tolist() for t in taken] == [[0, 2]]
    assert load.asked == [FIRST.tolist()]


def test_what_was_not_announced_is_loaded_at_once_and_breaks_nothing() -> None:
    """It does not wait for the announced load, which is under way, and that one is still there to be taken."""
    load = Gate(FIRST)
    with Ahead(load) as ahead:
        ahead.announce(FIRST)
        assert load.begun.wait(WAIT)
        assert ahead.take(SECOND).tolist() == [20, 22]
        load.opened.set()
        assert ahead.take(FIRST).tolist() == [0, 2]
    assert load.asked == [FIRST.tolist(), SECOND.tolist()]
    assert load.threads[1] is threading.current_thread()


def test_taking_twice_loads_twice() -> None:
    """What was taken is gone: nothing is held that nobody has announced."""
    load = Gate()
    with Ahead(load) as ahead:
        ahead.announce(FIRST)
        assert torch.equal(ahead.take(FIRST), ahead.take(FIRST))
    assert len(load.asked) == 2


def test_a_newer_announcement_drops_the_older_one() -> None:
    """One that has not begun is never loaded; what was dropped is loaded anew if it is taken after all."""
    load = Gate(FIRST)
    with Ahead(load) as ahead:
        ahead.announce(FIRST)
        assert load.begun.wait(WAIT)
        ahead.announce(SECOND)  # waits behind the first
        ahead.announce(THIRD)
        load.opened.set()
        assert ahead.take(THIRD).tolist() == [40, 42]
        assert load.asked == [FIRST.tolist(), THIRD.tolist()]
        assert ahead.take(FIRST).tolist() == [0, 2]
    assert load.asked == [FIRST.tolist(), THIRD.tolist(), FIRST.tolist()]


def test_announcing_the_same_again_does_not_load_it_again() -> None:
    """What is under way and wanted is kept."""
    load = Gate()
    with Ahead(load) as ahead:
        ahead.announce(FIRST)
        ahead.announce(FIRST.clone())
        ahead.take(FIRST)
    assert load.asked == [FIRST.tolist()]


def test_indices_may_be_written_over_after_the_announcement() -> None:
    """Announced is what the indices were: a buffer that the caller uses again is no longer that."""
    load = Gate(THIRD)
    with Ahead(load) as ahead:
        ahead.announce(THIRD)
        assert load.begun.wait(WAIT)
        buffer = FIRST.clone()
        ahead.announce(buffer)  # waits behind the third
        buffer.copy_(SECOND)
        load.opened.set()
        assert ahead.take(FIRST).tolist() == [0, 2]
    assert load.asked == [THIRD.tolist(), FIRST.tolist()]
    assert load.threads[1] is load.threads[0]  # and not the caller's


@pytest.mark.parametrize("announced", [True, False])
def test_an_error_of_the_load_comes_out_of_take(announced: bool) -> None:
    """The very same error, whether it happened in the background or not; and the next batch can be taken."""
    error = LookupError("no such file")

    def load(indices: Tensor) -> Tensor:
        if indices is not SECOND and indices.tolist() == FIRST.tolist():
            raise error
        return indices

    with Ahead(load) as ahead:
        if announced:
            ahead.announce(FIRST)
        with pytest.raises(LookupError) as caught:
            ahead.take(FIRST)
        assert caught.value is error
        ahead.announce(SECOND)
        assert torch.equal(ahead.take(SECOND), SECOND)


def test_an_error_that_nobody_takes_is_nobodys_error() -> None:
    """A batch that turned out not to be needed may have failed."""

    def load(indices: Tensor) -> Tensor:
        raise LookupError("no such file")

    with Ahead(load) as ahead:
        ahead.announce(FIRST)
        ahead.announce(SECOND)


def test_close_waits_for_the_load_under_way_and_for_no_other() -> None:
    """It does not return before the thread is done, and what had not begun never begins."""
    load = Gate(FIRST)
    ahead = Ahead(load)
    ahead.announce(FIRST)
    assert load.begun.wait(WAIT)
    ahead.announce(SECOND)
    closer = elsewhere(ahead.close)
    assert closer.is_alive()
    load.opened.set()
    closer.join(WAIT)
    assert not closer.is_alive()
    assert load.asked == [FIRST.tolist()]
    assert not load.threads[0].is_alive()
    ahead.close()  # a second time is as good


def test_closing_one_that_was_never_used() -> None:
    """A run that ends before its first batch has nothing to wait for, and no thread was started for it."""
    before = threading.active_count()
    with Ahead(Gate()):
        assert threading.active_count() == before


def test_taking_after_close_still_loads() -> None:
    """Without a thread it is only slower."""
    with Ahead(Gate()) as ahead:
        ahead.announce(FIRST)
    assert ahead.take(FIRST).tolist() == [0, 2]
