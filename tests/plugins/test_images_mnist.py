"""MNIST: what the idx files hold is what one gets, and a file that is not whole is refused by name."""

import gzip
import hashlib
import struct

import numpy as np
import pytest
import torch

from dvgen.errors import ConfigError, DataError
from dvgen_images.mnist import MNIST

COUNTS = {"train": 12, "t10k": 5}


def idx(array):
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def content():
    draw = np.random.default_rng(0)
    images = {part: draw.integers(0, 256, (n, 28, 28), dtype=np.uint8) for part, n in COUNTS.items()}
    labels = {part: draw.integers(0, 10, n, dtype=np.uint8) for part, n in COUNTS.items()}
    return images, labels


def write(folder, content, suffix=""):
    folder.mkdir(exist_ok=True)
    pack = gzip.compress if suffix.endswith(".gz") else bytes
    dot = "." if suffix.startswith("dotted") else "-"
    for part in COUNTS:
        for kind, axes, arrays in (("images", 3, content[0]), ("labels", 1, content[1])):
            name = f"{part}-{kind}{dot}idx{axes}-ubyte{suffix.removeprefix('dotted')}"
            (folder / name).write_bytes(pack(idx(arrays[part])))
    return str(folder)


def opened(location):
    return MNIST(MNIST.Config(), location=location)


@pytest.mark.parametrize("suffix", ["", ".gz", "dotted", "dotted.gz"])
def test_the_files_are_read_gzipped_or_not(tmp_path, content, suffix):
    dataset = opened(write(tmp_path, content, suffix))
    images, labels = content
    everything = np.concatenate([images["train"], images["t10k"]])
    signals = dataset.signals(range(17))
    assert (dataset.shape, dataset.parts) == ((1, 28, 28), {"train": (0, 12), "test": (12, 17)})
    assert dataset.labels.tolist() == [*labels["train"], *labels["t10k"]]
    assert signals.shape == (17, 1, 28, 28)
    assert signals.dtype == torch.float32
    assert np.allclose(signals[:, 0].numpy(), everything / 127.5 - 1, atol=1e-6)
    assert np.array_equal(((signals[:, 0] + 1) * 127.5).round().numpy(), everything)


def test_black_and_white_are_exactly_the_ends_of_the_range(tmp_path, content):
    content[0]["train"][0], content[0]["train"][1] = 0, 255
    signals = opened(write(tmp_path, content)).signals([0, 1])
    assert (signals[0] == -1).all()
    assert (signals[1] == 1).all()


def test_the_digest_follows_the_content_and_not_its_packing(tmp_path, content):
    digests = {opened(write(tmp_path / suffix, content, suffix)).digest() for suffix in ("dotted", "dotted.gz")}
    content[0]["t10k"][0, 0, 0] ^= 1
    digests.add(opened(write(tmp_path / "pixel", content)).digest())
    content[1]["train"][0] ^= 1
    digests.add(opened(write(tmp_path / "label", content)).digest())
    assert len(digests) == 3
    assert all(len(digest) == len(hashlib.sha256().hexdigest()) for digest in digests)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("damage", ["truncated", "header", "magic", "more", "empty", "huge"])
def test_a_damaged_file_is_named(tmp_path, content, name, suffix, damage):
    location = write(tmp_path, content, suffix)
    path = tmp_path / (name + suffix)
    whole = gzip.decompress(path.read_bytes()) if suffix else path.read_bytes()
    spoilt = {
        "truncated": whole[:-1],
        "header": whole[:6],
        "magic": b"\0\0\x0d" + whole[3:],
        "more": whole + b"\0",
        "empty": b"",
        "huge": whole[:4] + b"\xff\xff\xff\xff" + whole[8:],
    }[damage]
    path.write_bytes(gzip.compress(spoilt) if suffix else spoilt)
    with pytest.raises(DataError, match=name):
        opened(location)


@pytest.mark.parametrize("cut", [5, 40, -4])
def test_a_truncated_or_spoilt_gzip_is_named(tmp_path, content, cut):
    location = write(tmp_path, content, ".gz")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: damaged"):
        opened(location)
    path.write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: damaged"):
        opened(location)


def test_images_and_labels_must_agree(tmp_path, content):
    content[1]["train"] = content[1]["train"][:-1]
    with pytest.raises(DataError, match="12 train images but 11 labels"):
        opened(write(tmp_path, content))
    content[1]["train"] = np.full(12, 10, dtype=np.uint8)
    with pytest.raises(DataError, match="label is 10"):
        opened(write(tmp_path, content))


def test_missing_things_say_what_was_looked_for(tmp_path, content):
    with pytest.raises(ConfigError, match="--data mnist:DIR"):
        opened(None)
    with pytest.raises(DataError, match=r"no folder .*nowhere.*idx3-ubyte"):
        opened(str(tmp_path / "nowhere"))
    location = write(tmp_path, content)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"no t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte\.gz in"):
        opened(location)
