"""CIFAR-10: the pickles are read without obeying them, and a tree of images serves as well."""

import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from dvgen.errors import ConfigError, DataError
from dvgen_images.cifar10 import CIFAR10
from dvgen_images.folder import Folder

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def batch(seed, rows=3):
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (rows, 3072), dtype=np.uint8)
    labels = [int(label) for label in draw.integers(0, 10, rows)]
    return {"batch_label": "a batch", "labels": labels, "data": pixels, "filenames": [f"{i}.png" for i in range(rows)]}


def write(folder, key=str, protocol=2):
    """The seven files, as Python 3 pickles them; `key` makes text or bytes of the keys."""
    folder.mkdir(exist_ok=True)
    for seed, name in enumerate(BATCHES):
        table = {key(k): v for k, v in batch(seed).items()}
        (folder / name).write_bytes(pickle.dumps(table, protocol=protocol))
    (folder / "batches.meta").write_bytes(pickle.dumps({key("label_names"): NAMES}, protocol=protocol))
    return str(folder)


def opened(location):
    return CIFAR10(CIFAR10.Config(), location=str(location))


@pytest.mark.parametrize("key", [str, str.encode])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_the_batches_are_read(tmp_path, key, protocol):
    dataset = opened(write(tmp_path, key, protocol))
    expected = np.concatenate([batch(seed)["data"] for seed in range(6)]).reshape(18, 3, 32, 32)
    assert (dataset.shape, dataset.parts) == ((3, 32, 32), {"train": (0, 15), "test": (15, 18)})
    assert dataset.classes == tuple(NAMES)
    assert dataset.labels.tolist() == [label for seed in range(6) for label in batch(seed)["labels"]]
    assert dataset.labels.dtype == torch.int64
    assert np.array_equal(((dataset.signals(range(18)) + 1) * 127.5).round().numpy(), expected)


def test_a_pickle_of_python_2_is_read(tmp_path):
    """The real files: text is bytes of Python 2 (opcode U), and the module is numpy.core.multiarray."""
    raw = batch(0, rows=1)["data"].tobytes()
    table = (
        b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T\x00\x0c\x00\x00" + raw + b"tbU\x06labels]K\x07au."
    )
    assert pickle.loads(table, encoding="latin1")["data"].tobytes() == raw  # numpy agrees that this is such a file
    write(tmp_path)
    (tmp_path / "test_batch").write_bytes(table)
    dataset = opened(tmp_path)
    assert dataset.labels[15:].tolist() == [7]
    assert ((dataset.signals([15]) + 1) * 127.5).round().to(torch.uint8).numpy().tobytes() == raw


def test_the_folder_above_serves_as_well(tmp_path):
    inner = opened(write(tmp_path / "cifar-10-batches-py"))
    assert opened(tmp_path).digest() == inner.digest()


class Hostile:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("name", ["data_batch_3", "batches.meta"])
@pytest.mark.parametrize("function", [os.system, eval, getattr, np.load, np.frombuffer])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, name, function):
    location = write(tmp_path)
    touched = tmp_path / "touched"
    command = f"open({str(touched)!r}, 'w')" if function is eval else f"touch {touched}"
    payload = Hostile(function, command)
    for protocol in (0, 2, 4):
        (tmp_path / name).write_bytes(pickle.dumps({"data": payload, "labels": [1], "label_names": NAMES}, protocol=protocol))
        with pytest.raises(DataError, match=rf"{name}: refused: it asks for .*nothing was run"):
            opened(location)
        assert not touched.exists()


def test_the_hostile_pickle_of_these_tests_does_run_elsewhere(tmp_path):
    """Or the test above would prove nothing."""
    pickle.loads(pickle.dumps(Hostile(os.system, f"touch {tmp_path / 'touched'}")))
    assert (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"labels": [1, 2]},
        {"labels": [1, 2, 10]},
        {"labels": [1, 2, True]},
        {"labels": "abc"},
        {"data": np.zeros((3, 3071), dtype=np.uint8)},
        {"data": np.zeros((3, 3072), dtype=np.int16)},
        {"data": np.zeros((3, 3072), dtype=np.uint8, order="F")},
        {"data": np.zeros((0, 3072), dtype=np.uint8), "labels": []},
        {"data": b"abc"},
    ],
)
def test_another_content_is_refused_by_name(tmp_path, change):
    location = write(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(batch(1) | change, protocol=2))
    with pytest.raises(DataError, match="data_batch_2"):
        opened(location)


@pytest.mark.parametrize("cut", [0, 1, 50, -1])
def test_a_truncated_file_is_named(tmp_path, cut):
    location = write(tmp_path)
    path = tmp_path / "data_batch_5"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="data_batch_5"):
        opened(location)


def test_a_wrong_byte_does_not_exhaust_memory(tmp_path):
    """A place in the memo of 2^32 - 1 (opcode r) makes the unpickler of the standard library that is in C take 64 GB."""
    location = write(tmp_path)
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02}r\xff\xff\xff\xff.")
    with pytest.raises(DataError, match="data_batch_1: no 'data'"):
        opened(location)


def test_missing_things_say_what_was_looked_for(tmp_path):
    with pytest.raises(ConfigError, match="--data cifar10:DIR"):
        CIFAR10(CIFAR10.Config(), location=None)
    with pytest.raises(DataError, match="nothing to read"):
        opened(tmp_path)
    location = write(tmp_path)
    (tmp_path / "test_batch").unlink()
    with pytest.raises(DataError, match="no test_batch in"):
        opened(location)


def test_the_digest_follows_the_content(tmp_path):
    first = opened(write(tmp_path / "a")).digest()
    assert first == opened(write(tmp_path / "b", key=str.encode)).digest()
    (tmp_path / "b" / "test_batch").write_bytes(pickle.dumps(batch(99), protocol=2))
    assert first != opened(tmp_path / "b").digest()


def test_a_tree_of_images_is_read_as_a_folder_is(tmp_path):
    for part in ("train", "test"):
        for kind in NAMES[:2]:
            (tmp_path / part / kind).mkdir(parents=True)
            Image.new("RGB", (32, 32), (200, 30, 30)).save(tmp_path / part / kind / "0.png")
    (tmp_path / "train" / "bird").mkdir()
    (tmp_path / "train" / "bird" / "bad.jpg").write_bytes(b"no")
    tree, folder = opened(tmp_path), Folder(Folder.Config(size=32), location=str(tmp_path))
    assert (tree.parts, tree.classes, tree.skipped) == (folder.parts, folder.classes, ("train/bird/bad.jpg",))
    assert torch.equal(tree.signals(range(4)), folder.signals(range(4)))
    assert tree.digest() == folder.digest()
