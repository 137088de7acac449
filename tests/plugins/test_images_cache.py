"""Decoded images are kept on disk, and whoever opens the set cannot tell, but by the time it takes."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dvgen.blocks.array_cache import RECORD, ROWS
from dvgen.blocks.file_tree import file_states
from dvgen.errors import DataError
from dvgen.interfaces.data import Dataset
from dvgen_images import decoded_files, files, folder, pixel_cache
from dvgen_images.decoded_files import FEW
from dvgen_images.folder import Folder
from dvgen_images.pixel_cache import PixelCache

COUNT = 9  # images; each is an uncompressed bmp, so that its length says nothing about its contents
BAD = ("a/bad.bmp", "gone.bmp")


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes in two parts, a damaged image and a link to nowhere."""
    root = tmp_path / "set"
    for i in range(COUNT):
        draw(root / ("train" if i < 6 else "test") / "ab"[i % 2] / f"{i}.bmp", i)
    (root / "train" / BAD[0]).write_bytes(b"spoilt")
    (root / "train" / BAD[1]).symlink_to(tmp_path / "nowhere")
    return root


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of cached images, of this test alone; even small sets are cached."""
    monkeypatch.setenv("DVGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(decoded_files, "FEW", 1)
    return tmp_path / "cache" / "images"


@pytest.fixture(params=["in memory", "too large"])
def room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to hold a set."""
    if request.param == "too large":
        monkeypatch.setattr(folder, "MEMORY", 100)


@pytest.fixture
def too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MEMORY", 100)


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every file that is decoded, or could not be."""
    calls: list[int] = []
    decode = files.decode

    def counted(data: bytes, size: int) -> Any:
        calls.append(len(data))
        return decode(data, size)

    monkeypatch.setattr(files, "decode", counted)
    return calls


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read to see whether they are still the same; all of them count as long untouched."""
    read: list[str] = []
    hash_files = pixel_cache.hash_files

    def listed(root: Path, names: Sequence[str]) -> list[str]:
        read.extend(names)
        return hash_files(root, names)

    monkeypatch.setattr(pixel_cache, "hash_files", listed)
    monkeypatch.setattr(pixel_cache, "TICK", -(10**18))
    return read


def opened(root: Path, size: int = 8) -> Folder:
    return Folder(Folder.Config(size=size), location=str(root))


def everything(dataset: Dataset) -> dict[str, Any]:
    return {
        "signals": dataset.signals(range(len(dataset))).tolist(),
        "digest": dataset.digest(),
        "labels": dataset.labels.tolist(),
        "known": (dataset.shape, dataset.classes, dataset.parts, dataset.skipped),
    }


def without_cache(root: Path, size: int = 8) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoded_files, "FEW", 1 << 30)
        return everything(opened(root, size))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def cache(images: Path) -> Path:
    (found,) = images.iterdir()
    return found


# ------------------------------------------------------------------------------------------ what is kept


@pytest.mark.usefixtures("room")
def test_a_set_is_decoded_once_and_is_the_same_with_and_without_a_cache(root: Path, decodings: list[int]) -> None:
    """Signals bit for bit, digest, labels, parts, and the files that were left out; nothing is decoded the second time."""
    plain = without_cache(root)
    decodings.clear()
    assert everything(opened(root)) == plain
    assert len(decodings) == COUNT + 1
    assert everything(opened(root)) == plain
    assert len(decodings) == COUNT + 1
    assert plain["known"][3] == tuple(f"train/{name}" for name in BAD)


@pytest.mark.usefixtures("too_large")
def test_batches_of_a_set_larger_than_memory_come_from_the_disk(root: Path, decodings: list[int]) -> None:
    """In any order, with repetitions, after the first opening as after the second."""
    for _ in range(2):
        dataset = opened(root)
        decodings.clear()
        whole = dataset.signals(range(COUNT))
        assert torch.equal(dataset.signals([8, 0, 3, 3]), whole[[8, 0, 3, 3]])
        assert dataset.signals([]).shape == (0, 3, 8, 8)
        assert decodings == []


def test_a_set_that_nobody_has_touched_is_not_read(root: Path, hashed: list[str]) -> None:
    """Neither decoded nor hashed: what the system says of the files is enough."""
    opened(root)
    opened(root)
    assert hashed == []


def test_a_file_that_is_new_may_be_written_again_unseen_and_is_read(
    root: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one tick of the clock, its times would be the same."""
    monkeypatch.setattr(pixel_cache, "TICK", 10**18)
    opened(root)
    assert hashed == []
    opened(root)
    assert len(hashed) == COUNT + 1  # the link to nowhere has no times


def test_a_copy_shares_the_cache_once_its_files_are_found_equal(
    root: Path, tmp_path: Path, images: Path, hashed: list[str], decodings: list[int]
) -> None:
    """Wherever it lies; its files are read and hashed, and not decoded."""
    plain = everything(opened(root))
    decodings.clear()
    copy = shutil.copytree(root, tmp_path / "elsewhere", symlinks=True)
    assert everything(opened(copy)) == plain
    assert (len(hashed), decodings) == (COUNT + 1, [])
    cache(images)


def test_a_set_that_only_looks_like_another_is_decoded(root: Path, tmp_path: Path) -> None:
    """Equal names, lengths and times of writing, as reproducible archives give them, and other pixels."""
    first = everything(opened(root))
    copy = shutil.copytree(root, tmp_path / "elsewhere", symlinks=True)
    victim = copy / "train" / "a" / "0.bmp"
    state = victim.stat()
    draw(victim, 99)
    os.utime(victim, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert victim.stat().st_size == state.st_size
    second = everything(opened(copy))
    assert second == without_cache(copy)
    assert second["digest"] != first["digest"]
    assert everything(opened(root)) == first


# ------------------------------------------------------------------------------------------ what has changed


def rewrite(root: Path) -> None:
    draw(root / "train" / "b" / "1.bmp", 99)


def rewrite_in_disguise(root: Path) -> None:
    """Another content of the same length, and the time of writing set back."""
    path = root / "train" / "b" / "1.bmp"
    state = path.stat()
    draw(path, 99)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def spoil_in_disguise(root: Path) -> None:
    path = root / "train" / "b" / "1.bmp"
    state = path.stat()
    path.write_bytes(b"x" * state.st_size)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def add(root: Path) -> None:
    draw(root / "train" / "c" / "10.bmp", 10)


def take_away(root: Path) -> None:
    (root / "train" / "b" / "1.bmp").unlink()


def rename(root: Path) -> None:
    (root / "train" / "b" / "1.bmp").rename(root / "train" / "b" / "11.bmp")


def repair(root: Path) -> None:
    draw(root / "train" / BAD[0], 77)


def link(root: Path) -> None:
    draw(root.parent / "nowhere.bmp", 55)
    (root / "train" / BAD[1]).unlink()
    (root / "train" / BAD[1]).symlink_to(root.parent / "nowhere.bmp")


CHANGES = [rewrite, rewrite_in_disguise, spoil_in_disguise, add, take_away, rename, repair, link]


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize("tick", [10**18, -(10**18)])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_noticed(
    root: Path, monkeypatch: pytest.MonkeyPatch, decodings: list[int], change: Callable[[Path], None], tick: int
) -> None:
    """Whether its times are believed or not yet; the set is then what it is without a cache, and has a new one."""
    monkeypatch.setattr(pixel_cache, "TICK", tick)
    before = everything(opened(root))
    change(root)
    after = without_cache(root)
    assert after["digest"] != before["digest"]
    assert everything(opened(root)) == after
    decodings.clear()
    assert everything(opened(root)) == after
    assert decodings == []


@pytest.mark.parametrize("other", ["size", "TRANSFORM", "LAYOUT", "versions"])
def test_what_decides_the_pixels_names_the_cache(root: Path, images: Path, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    """Another size, another way to decode, or another decoder has a cache of its own."""
    opened(root)
    values: dict[str, Any] = {"TRANSFORM": "upside down", "LAYOUT": 99, "versions": lambda: "Pillow 0"}
    if other != "size":
        monkeypatch.setattr(pixel_cache, other, values[other])
    opened(root, size=9 if other == "size" else 8)
    assert len(list(images.iterdir())) == 2


# ------------------------------------------------------------------------------------------ what goes wrong


@pytest.mark.usefixtures("room")
@pytest.mark.parametrize(("file", "place"), [(RECORD, 50), (ROWS, -5)])
def test_a_damaged_cache_is_not_used_and_is_made_again(root: Path, images: Path, file: str, place: int) -> None:
    """One byte of the record or of a pixel: a warning, the true pixels, and a whole cache after the next opening."""
    plain = everything(opened(root))
    flip(cache(images) / file, place)
    with pytest.warns(UserWarning, match="damaged"):
        assert everything(opened(root)) == plain
    assert everything(opened(root)) == plain
    assert (cache(images) / file).is_file()


@pytest.mark.usefixtures("too_large")
@pytest.mark.parametrize(
    ("act", "fault"),
    [(take_away, "FileNotFoundError|not a file"), (rewrite_in_disguise, "its contents have changed"), (rewrite, "contents")],
)
def test_a_row_found_damaged_needs_its_file(root: Path, images: Path, act: Callable[[Path], None], fault: str) -> None:
    """Without it, or with another in its place, the signal would not be what the digest says."""
    dataset = opened(root)
    dataset.signals([0])
    (row,) = [i for i, entry in enumerate(dataset._entries) if entry.name == "train/b/1.bmp"]
    for byte in range(-11 * 192, 0, 192):  # in every row
        flip(cache(images) / ROWS, byte)
    act(root)
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(DataError, match=f"train/b/1.bmp: could be read when the set was opened, not now: .*({fault})"),
    ):
        dataset.signals([row])


@pytest.mark.usefixtures("room")
def test_stopping_while_files_are_decoded_leaves_nothing(root: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next opening begins anew."""
    plain = without_cache(root)
    decode_files = decoded_files.decode_files

    def interrupted(*arguments: Any) -> Any:
        decode_files(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decoded_files, "decode_files", interrupted)
        with pytest.raises(KeyboardInterrupt):
            opened(root)
    assert list(images.iterdir()) == []
    assert everything(opened(root)) == plain


@pytest.mark.usefixtures("room")
def test_without_a_place_to_write_there_is_no_cache_and_no_failure(root: Path, tmp_path: Path, decodings: list[int]) -> None:
    """A warning says so, and the set is decoded each time it is opened."""
    plain = without_cache(root)
    (tmp_path / "cache").touch()
    for _ in range(2):
        decodings.clear()
        with pytest.warns(UserWarning, match="not written"):
            assert everything(opened(root)) == plain
        assert len(decodings) > COUNT


@pytest.mark.usefixtures("too_large")
def test_one_process_uses_what_another_has_written_since(root: Path, images: Path, decodings: list[int]) -> None:
    """Of several that open a large set at once, those that do not write it need not decode every batch for ever."""
    plain = without_cache(root)
    names = [entry.name for entry in folder.find_files(root, folder.EXTENSIONS)]
    with PixelCache(root, names, 8).writing():
        dataset = opened(root)
    assert list(images.iterdir()) == []
    decodings.clear()
    assert everything(dataset) == plain
    assert len(decodings) == COUNT
    opened(root)
    decodings.clear()
    assert everything(dataset) == plain
    assert decodings == []


@pytest.mark.usefixtures("too_large")
def test_what_another_has_written_since_of_other_files_is_not_used(root: Path, images: Path) -> None:
    """The files were changed between the two openings: the first must not read the pixels of the second."""
    names = [entry.name for entry in folder.find_files(root, folder.EXTENSIONS)]
    with PixelCache(root, names, 8).writing():
        first = opened(root)
    rewrite_in_disguise(root)
    opened(root)
    cache(images)
    with pytest.raises(DataError, match="its contents have changed"):
        first.signals(range(COUNT))


def test_a_set_of_which_nothing_can_be_read_is_refused_and_not_cached(root: Path, images: Path) -> None:
    """The message says why, as it could not from a cache."""
    for path in root.rglob("*.bmp"):
        if not path.is_symlink():
            path.write_bytes(b"spoilt")
    for _ in range(2):
        with pytest.raises(DataError, match=r"none of the 11 images .*not an image Pillow can read"):
            opened(root)
    assert list(images.iterdir()) == []


def test_a_small_set_has_no_cache(root: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding it costs less than a folder on disk is worth."""
    monkeypatch.setattr(decoded_files, "FEW", FEW)
    opened(root)
    assert not images.exists()


def test_the_states_of_files(root: Path) -> None:
    """Bytes and times as the system has them, through links; nothing for a link to nowhere."""
    names = ["train/a/0.bmp", f"train/{BAD[1]}"]
    states = file_states(root, names)
    known = (root / names[0]).stat()
    assert states.sizes.tolist() == [known.st_size, -1]
    assert states.modified.tolist() == [known.st_mtime_ns, -1]
    assert states.changed.tolist() == [known.st_ctime_ns, -1]
    assert [len(column) for column in file_states(root, [])] == [0, 0, 0]
