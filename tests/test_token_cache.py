"""The token cache: what was written is read, in batches, and never codes of another tokenizer, other data, or damaged ones."""

import attrs
import numpy as np
import pytest
import torch

from dvgen import sealed
from dvgen.data.token_cache import TokenBatch, TokenCache, TokenIdentity, write_tokens
from dvgen.errors import IntegrityError, ShapeError
from dvgen.interfaces.codes import MASKED, Level

LEVELS = (Level("top", (2, 2), 512), Level("bottom", (3,), 1 << 17), Level("huge", (1,), (1 << 32) + 1))
IDENTITY = TokenIdentity(tokenizer="abc", data="def", levels=LEVELS, num_classes=10, splits={"train": 7, "test": 2})


def tokens(n, seed):
    generator = torch.Generator().manual_seed(seed)
    codes = tuple(torch.randint(level.num_codes, (n, *level.grid), generator=generator) for level in LEVELS)
    for code, level in zip(codes, LEVELS, strict=True):
        code[0] = level.num_codes - 1  # the largest must fit
    return TokenBatch(codes, torch.randint(10, (n,), generator=generator), torch.randperm(n, generator=generator))


def batches(whole, size):
    for start in range(0, len(whole.labels), size):
        rows = slice(start, start + size)
        yield TokenBatch(tuple(code[rows] for code in whole.codes), whole.labels[rows], whole.indices[rows])


@pytest.fixture
def written(tmp_path):
    tables = {"train": tokens(7, seed=0), "test": tokens(2, seed=1)}
    write_tokens(tmp_path / "tokens", {split: batches(whole, 3) for split, whole in tables.items()}, IDENTITY)
    return tmp_path / "tokens", tables


def test_what_was_written_is_read(written):
    folder, tables = written
    cache = TokenCache.open(folder, IDENTITY)
    assert (cache.levels, cache.num_classes, cache.identity) == (LEVELS, 10, IDENTITY)
    for split, whole in tables.items():
        assert cache.size(split) == len(whole.labels)
        for rows in (None, torch.tensor([1, 0, 1]), [1]):
            picked = slice(None) if rows is None else rows
            read = (*cache.codes(split, rows), cache.labels(split, rows), cache.signal_indices(split, rows))
            expected = (*(code[picked] for code in whole.codes), whole.labels[picked], whole.indices[picked])
            assert all(r.dtype == torch.int64 and torch.equal(r, e) for r, e in zip(read, expected, strict=True))


def test_codes_are_stored_small_and_read_by_mapping(written):
    folder, _ = written
    kinds = [np.load(folder / f"train-codes-{i}.npy", mmap_mode="r").dtype for i in range(3)]
    assert kinds == [np.uint16, np.uint32, np.int64]
    assert all(isinstance(array, np.memmap) for array in TokenCache.open(folder)._arrays.values())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"tokenizer": "xyz"}, "another tokenizer: they have abc, expected xyz"),
        ({"data": "xyz"}, "another data"),
        ({"levels": LEVELS[:2]}, "another levels"),
        ({"num_classes": 9}, "another num_classes"),
        ({"splits": {"train": 7, "test": 3}}, "another splits"),
    ],
)
def test_codes_of_another_identity_are_refused_and_the_difference_is_named(written, change, match):
    with pytest.raises(IntegrityError, match=match):
        TokenCache.open(written[0], attrs.evolve(IDENTITY, **change))


@pytest.mark.parametrize("name", ["train-codes-0.npy", "test-labels.npy", "train-indices.npy", "MANIFEST.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_damage_is_never_read(written, name, damage):
    path = written[0] / name
    data = bytearray(path.read_bytes())
    data[-1 if name.endswith("npy") else 0] ^= 1
    path.unlink()
    if damage != "remove":
        path.write_bytes(data if damage == "flip" else data[:-2])
    with pytest.raises(IntegrityError):
        TokenCache.open(written[0], IDENTITY)


def test_a_folder_of_something_else_is_refused(tmp_path):
    sealed.seal(tmp_path / "other", lambda folder: None, {"step": 3})
    with pytest.raises(IntegrityError, match="not a folder of tokens"):
        TokenCache.open(tmp_path / "other")


def test_objects_in_an_array_are_refused(written, tmp_path):
    """A .npy file may hold a pickle; a folder sealed around one is still not read."""
    folder, _ = written
    about = sealed.verify(folder)

    def fill(aside):
        for path in folder.glob("*.npy"):
            np.save(aside / path.name, np.array([{}] * 7) if path.name == "train-labels.npy" else np.load(path))

    sealed.seal(tmp_path / "forged", fill, about)
    with pytest.raises(IntegrityError, match=r"train-labels\.npy: not an array"):
        TokenCache.open(tmp_path / "forged")


def test_an_array_of_another_shape_is_refused(written, tmp_path):
    folder, _ = written
    about = sealed.verify(folder)

    def fill(aside):
        for path in folder.glob("*.npy"):
            np.save(aside / path.name, np.load(path)[:-1])

    sealed.seal(tmp_path / "short", fill, about)
    with pytest.raises(IntegrityError, match="expected"):
        TokenCache.open(tmp_path / "short")


def spoiled(change):
    whole = tokens(7, seed=0)
    codes = tuple(code.clone() for code in whole.codes)
    if change == "masked":
        codes[0][3, 0, 0] = MASKED
    if change == "out of range":
        codes[0][3, 0, 0] = 512
    if change == "uneven":
        return TokenBatch(codes, whole.labels, whole.indices[:-1])
    rows = 6 if change == "too few" else 7
    return TokenBatch(tuple(code[:rows] for code in codes), whole.labels[:rows], whole.indices[:rows])


@pytest.mark.parametrize("change", ["masked", "out of range", "uneven", "too few"])
def test_codes_that_are_not_those_announced_leave_nothing_behind(tmp_path, change):
    with pytest.raises(ShapeError):
        write_tokens(tmp_path / "tokens", {"train": [spoiled(change)], "test": [tokens(2, seed=1)]}, IDENTITY)
    assert list(tmp_path.iterdir()) == []


def test_too_many_signals_and_missing_splits_are_refused(tmp_path):
    with pytest.raises(ShapeError, match="after 7 of 7"):
        write_tokens(tmp_path / "tokens", {"train": [tokens(7, seed=0)] * 2, "test": [tokens(2, seed=1)]}, IDENTITY)
    with pytest.raises(ShapeError, match="splits"):
        write_tokens(tmp_path / "tokens", {"train": [tokens(7, seed=0)]}, IDENTITY)
