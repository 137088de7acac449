"""A cached array is whole or not there, is never believed without its checksum, and never costs a run."""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvgen.blocks.array_cache import RECORD, ROWS, UNUSED, CachedRows, remove, writing

ARRAY: NDArray[np.int16] = np.random.default_rng(0).integers(-999, 999, (5, 2, 3), dtype=np.int16)
NOTES = np.array(["a", "bc", ""])


def nothing() -> None:
    pass


def write(folder: Path, array: NDArray[Any] = ARRAY, midway: Callable[[], None] = nothing) -> None:
    with writing(folder, array.shape, array.dtype) as writer:
        writer.write(2, array[2:])
        midway()
        writer.write(0, array[:2])
        writer.finish({"notes": NOTES})


def read(cached: CachedRows | None, *rows: int) -> tuple[list[Any], list[bool]]:
    assert cached is not None
    into = np.zeros((len(rows), *cached.shape[1:]), cached.dtype)
    sound = cached.read(np.array(rows, dtype=np.int64), into)
    return into.tolist(), sound.tolist()


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def names(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir())


def test_what_was_written_in_any_order_is_read_in_any_order(tmp_path: Path) -> None:
    """Rows, the small arrays beside them, and a file that numpy itself can read; nothing else remains."""
    write(tmp_path / "a")
    cached = CachedRows.open(tmp_path / "a")
    assert cached is not None
    assert (cached.shape, cached.dtype) == (ARRAY.shape, ARRAY.dtype)
    assert read(cached, 4, 0, 4) == (ARRAY[[4, 0, 4]].tolist(), [True] * 3)
    assert read(cached) == ([], [])
    assert cached.record["notes"].tolist() == NOTES.tolist()
    assert np.array_equal(np.load(tmp_path / "a" / ROWS), ARRAY)
    assert names(tmp_path) == ["a"]


def test_what_is_not_there_is_not_opened(tmp_path: Path) -> None:
    """No folder, or one that is a file, is no cache, and no fault."""
    (tmp_path / "file").touch()
    assert CachedRows.open(tmp_path / "a") is None
    assert CachedRows.open(tmp_path / "file") is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_exception_in_the_middle_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """Neither a part under the name of the whole, nor anything aside."""

    def stop() -> None:
        raise error

    with pytest.raises(error):
        write(tmp_path / "a", midway=stop)
    assert names(tmp_path) == []


def test_a_writer_that_does_not_finish_leaves_nothing(tmp_path: Path) -> None:
    """Rows without a record are no cache."""
    with writing(tmp_path / "a", ARRAY.shape, ARRAY.dtype) as writer:
        writer.write(0, ARRAY)
    assert names(tmp_path) == []


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from dvgen.blocks.array_cache import writing
assert "torch" not in sys.modules
with writing(Path(sys.argv[1]), (5, 2, 3), np.int16) as writer:
    writer.write(0, np.ones((2, 2, 3), np.int16))
    os._exit(9)
"""


@pytest.mark.parametrize("next_one", ["a", "b"])
def test_what_a_killed_process_left_is_never_used_and_is_removed(tmp_path: Path, next_one: str) -> None:
    """By the next process that writes, the same cache or another; and the same one is then written whole."""
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a")], check=False).returncode == 9
    assert names(tmp_path) == [".aside-a"]
    assert CachedRows.open(tmp_path / "a") is None
    write(tmp_path / next_one)
    assert names(tmp_path) == [next_one]
    assert read(CachedRows.open(tmp_path / next_one), 0, 4)[0] == ARRAY[[0, 4]].tolist()


def test_of_two_that_write_at_once_one_writes(tmp_path: Path) -> None:
    """The other takes rows for nothing and disturbs nothing, whichever ends first; and so does one that comes too late."""
    with writing(tmp_path / "a", ARRAY.shape, ARRAY.dtype) as writer:
        write(tmp_path / "a", ARRAY + 1)
        writer.write(0, ARRAY)
        with writing(tmp_path / "a", ARRAY.shape, ARRAY.dtype) as second:
            writer.finish({})
            second.write(0, ARRAY + 1)
            second.finish({})
    write(tmp_path / "a", ARRAY + 1)
    assert names(tmp_path) == ["a"]
    assert read(CachedRows.open(tmp_path / "a"), 0)[0] == ARRAY[:1].tolist()


def test_ending_late_does_not_cost_the_one_who_writes_since(tmp_path: Path) -> None:
    """What is aside under this name by then is another's."""
    first = writing(tmp_path / "a", ARRAY.shape, ARRAY.dtype)
    writer = first.__enter__()
    writer.write(0, ARRAY)
    writer.finish({})
    remove(tmp_path / "a")

    def end_the_first() -> None:
        first.__exit__(None, None, None)

    write(tmp_path / "a", ARRAY + 1, midway=end_the_first)
    assert read(CachedRows.open(tmp_path / "a"), 0)[0] == (ARRAY + 1)[:1].tolist()


def test_what_another_is_writing_is_not_taken_for_a_leftover(tmp_path: Path) -> None:
    """Clearing up before one cache is written passes over those whose writer lives."""
    with writing(tmp_path / "a", ARRAY.shape, ARRAY.dtype) as writer:
        write(tmp_path / "b")
        writer.write(0, ARRAY)
        writer.finish({})
    assert names(tmp_path) == ["a", "b"]


def test_what_nobody_opened_for_long_makes_room(tmp_path: Path) -> None:
    """Opening counts as use; the time of writing does not matter."""
    for name in ("old", "used"):
        write(tmp_path / name)
        os.utime(tmp_path / name, times=(0, time.time() - UNUSED - 9))
    assert CachedRows.open(tmp_path / "used") is not None
    write(tmp_path / "new")
    assert names(tmp_path) == ["new", "used"]


def test_what_others_keep_in_the_same_place_is_not_ours_to_remove(tmp_path: Path) -> None:
    """However old: the place is named by the user, who may keep pictures there."""
    write(tmp_path / "old")
    (tmp_path / "old" / "note.txt").touch()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cat.png").touch()
    (tmp_path / "file").touch()
    for path in list(tmp_path.iterdir()):
        os.utime(path, times=(0, 0))
    write(tmp_path / "new")
    assert names(tmp_path) == ["file", "new", "old", "pictures"]


@pytest.mark.parametrize("place", [0, 31, 32, 40, 200, -1])
def test_a_damaged_record_is_not_believed(tmp_path: Path, place: int) -> None:
    """Whichever byte it is: the folder is removed, with a warning."""
    write(tmp_path / "a")
    flip(tmp_path / "a" / RECORD, place)
    with pytest.warns(UserWarning, match=r"a: damaged \(the record is not the one"):
        assert CachedRows.open(tmp_path / "a") is None
    assert names(tmp_path) == []


@pytest.mark.parametrize("damage", ["shorter", "longer", "gone", "header"])
def test_rows_that_do_not_fit_the_record_are_not_believed(tmp_path: Path, damage: str) -> None:
    """A file that was cut, grew or vanished is found on opening."""
    write(tmp_path / "a")
    rows = tmp_path / "a" / ROWS
    data = rows.read_bytes()
    rows.write_bytes({"shorter": data[:-1], "longer": data + b"x", "gone": b"", "header": b"x" + data[1:]}[damage])
    if damage == "gone":
        rows.unlink()
    with pytest.warns(UserWarning, match="a: damaged"):
        assert CachedRows.open(tmp_path / "a") is None
    assert names(tmp_path) == []


def test_a_header_that_cannot_be_parsed_is_damage_and_no_failure(tmp_path: Path) -> None:
    """numpy reads it as source text of Python, and an unmatched bracket is no ValueError there."""
    write(tmp_path / "a")
    rows = tmp_path / "a" / ROWS
    data = rows.read_bytes()
    rows.write_bytes(data[:20] + b"(" + data[21:])
    with pytest.warns(UserWarning, match="a: damaged"):
        assert CachedRows.open(tmp_path / "a") is None
    assert names(tmp_path) == []


@pytest.mark.parametrize("byte", [0, 5, 11])
def test_a_damaged_row_is_named_and_the_others_are_read(tmp_path: Path, byte: int) -> None:
    """Any byte of it; the warning comes once, and the folder is gone for whoever comes next."""
    write(tmp_path / "a")
    cached = CachedRows.open(tmp_path / "a")
    flip(tmp_path / "a" / ROWS, -3 * 12 + byte)  # rows are 12 bytes: row 2
    with pytest.warns(UserWarning, match=r"a: damaged \(row 2"):
        assert read(cached, 1, 2, 3)[1] == [True, False, True]
    assert names(tmp_path) == []
    values, sound = read(cached, 2, 4)
    assert sound == [False, True]
    assert values[1] == ARRAY[4].tolist()


def test_a_row_that_nobody_wrote_is_not_believed(tmp_path: Path) -> None:
    """Zeros of a hole in the file are not data."""
    with writing(tmp_path / "a", ARRAY.shape, ARRAY.dtype) as writer:
        writer.write(0, ARRAY[:4])
        writer.finish({})
    cached = CachedRows.open(tmp_path / "a")
    with pytest.warns(UserWarning, match="row 4"):
        assert read(cached, 3, 4)[1] == [True, False]


def test_damage_found_late_does_not_cost_the_folder_that_was_made_since(tmp_path: Path) -> None:
    """Only the folder that holds the damaged file is removed."""
    write(tmp_path / "a")
    cached = CachedRows.open(tmp_path / "a")
    flip(tmp_path / "a" / ROWS, -1)
    shutil.move(tmp_path / "a", tmp_path / "moved")
    write(tmp_path / "a")
    assert read(cached, 4)[1] == [False]
    assert read(CachedRows.open(tmp_path / "a"), 4) == ([ARRAY[4].tolist()], [True])


def test_a_disk_that_cannot_be_read_any_more_costs_the_rows_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk is an unsound row, and no exception."""
    write(tmp_path / "a")
    cached = CachedRows.open(tmp_path / "a")

    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, "disk failed")

    monkeypatch.setattr(os, "preadv", refuse)
    with pytest.warns(UserWarning, match="row 0"):
        assert read(cached, 0)[1] == [False]


def test_a_tenth_of_the_disk_is_left_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted with what is to be written: 60 bytes of rows on a disk of 1000, 100 of which stay free."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(total=1000, free=160))
    write(tmp_path / "fits")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(total=1000, free=159))
    with pytest.warns(UserWarning, match=r"more: not written \(60 bytes more would leave less than 10% of the disk free\)"):
        write(tmp_path / "more")
    assert names(tmp_path) == ["fits"]


@pytest.mark.parametrize("at", [1, 2])
def test_a_disk_that_fills_up_costs_the_cache_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Whether the first row is refused or a later one: what is left over is taken for nothing, and nothing remains."""
    calls = []

    def fill(handle: int, data: memoryview, offset: int) -> int:
        calls.append(offset)
        if len(calls) >= at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)

    monkeypatch.setattr(os, "pwrite", fill)
    with pytest.warns(UserWarning, match=r"a: not written \(No space left on device\).*DVGEN_CACHE"):
        write(tmp_path / "a")
    assert len(calls) == at
    assert names(tmp_path) == []


def test_a_part_that_the_disk_takes_is_followed_by_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system may write fewer bytes than it is given."""
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, offset: whole(handle, data[:5], offset))
    write(tmp_path / "a")
    assert np.array_equal(np.load(tmp_path / "a" / ROWS), ARRAY)


def test_a_place_that_cannot_be_written_costs_the_cache_and_nothing_else(tmp_path: Path) -> None:
    """Such as one below a file."""
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="not written"):
        write(tmp_path / "file" / "a")
    assert names(tmp_path) == ["file"]


def test_a_folder_that_is_taken_away_while_it_is_written_costs_the_cache_and_nothing_else(tmp_path: Path) -> None:
    """Whoever empties the folder of caches need not ask who is writing."""
    with pytest.warns(UserWarning, match="not written"):
        write(tmp_path / "a", midway=lambda: shutil.rmtree(tmp_path / ".aside-a"))
    assert names(tmp_path) == []


def test_removing_what_is_not_there_is_no_fault(tmp_path: Path) -> None:
    """Another process may have removed it first."""
    write(tmp_path / "a")
    remove(tmp_path / "a")
    remove(tmp_path / "a")
    assert names(tmp_path) == []
