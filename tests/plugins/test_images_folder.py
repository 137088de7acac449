"""Any folder of images: places say class and part; what cannot be read is named and left out."""

import os
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from dvgen.config import structure
from dvgen.errors import ConfigError, DataError
from dvgen_images import decoding, folder
from dvgen_images.folder import Folder

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 210)


def opened(location, size=8):
    return Folder(Folder.Config(size=size), location=str(location))


def save(path, colour=RED, size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def colours(dataset):
    """The mean colour of every signal, 0..255, rounded."""
    return ((dataset.signals(range(len(dataset))).mean((2, 3)) + 1) * 127.5).round().int().tolist()


# ------------------------------------------------------------------------------------------ classes and parts


def test_sub_folders_are_classes_and_deeper_ones_belong_to_them(tmp_path):
    save(tmp_path / "cat" / "a.png", RED)
    save(tmp_path / "cat" / "young" / "deep" / "b.png", RED)
    save(tmp_path / "ant" / "c.png", BLUE)
    (tmp_path / "empty").mkdir()
    dataset = opened(tmp_path)
    assert dataset.classes == ("ant", "cat")
    assert dataset.labels.tolist() == [0, 1, 1]
    assert dataset.labels.dtype == torch.int64
    assert colours(dataset) == [list(BLUE), list(RED), list(RED)]
    assert (dataset.shape, dataset.parts, dataset.skipped) == ((3, 8, 8), {"train": (0, 3)}, ())


def test_images_in_the_folder_itself_are_one_class(tmp_path):
    save(tmp_path / "b.png")
    save(tmp_path / "a.JPG")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(b"left by a file manager")
    dataset = opened(tmp_path)
    assert (dataset.classes, len(dataset), dataset.skipped) == (("all",), 2, ())


@pytest.mark.parametrize("name", ["val", "validation"])
def test_folders_named_like_parts_are_parts(tmp_path, name):
    for part, kinds in {"test": "ab", name: "b", "train": "abc"}.items():
        for kind in kinds:
            save(tmp_path / part / kind / "0.png")
    dataset = opened(tmp_path)
    assert dataset.parts == {"train": (0, 3), "validation": (3, 4), "test": (4, 6)}
    assert dataset.classes == ("a", "b", "c")
    assert dataset.labels.tolist() == [0, 1, 2, 1, 0, 1]


def test_parts_without_classes(tmp_path):
    save(tmp_path / "train" / "0.png")
    save(tmp_path / "test" / "0.png")
    dataset = opened(tmp_path)
    assert (dataset.classes, dataset.parts) == (("all",), {"train": (0, 1), "test": (1, 2)})


@pytest.mark.parametrize("tops", [("test", "val"), ("test", "tram"), ("test", "")])
def test_without_a_folder_train_all_top_folders_are_classes(tmp_path, tops):
    for top in tops:
        save(tmp_path / top / "0.png")
    dataset = opened(tmp_path)
    assert dataset.parts == {"train": (0, len(tops))}
    assert dataset.classes == tuple(sorted(top or "all" for top in tops))


@pytest.mark.parametrize("tops", [("train",), ("train", "test"), ("train", "val", "test")])
@pytest.mark.parametrize(
    ("stray", "named"), [("tram/deep/0.png", "'tram/'"), ("0.png", "'0.png'"), ("Test/a/0.png", "'Test/'")]
)
def test_an_image_beside_the_parts_is_refused_and_named(tmp_path, tops, stray, named):
    """Else the test part would become a class, and be trained on."""
    for top in tops:
        save(tmp_path / top / "a" / "0.png")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("without images it is not in the way")
    (tmp_path / ".cache").mkdir()
    save(tmp_path / ".cache" / "0.png")
    assert opened(tmp_path).classes == ("a",)
    save(tmp_path / stray)
    with pytest.raises(DataError, match="expected only train, test and validation at the top, or none of them") as refused:
        opened(tmp_path)
    line = str(refused.value)
    assert str(tmp_path) in line
    assert f"beside it is {named};" in line
    assert "move it away or into a part" in line
    assert "\n" not in line


def test_a_class_may_be_named_train_where_the_message_says(tmp_path):
    for kind in ("tram", "train"):
        save(tmp_path / "train" / kind / "0.png")
    dataset = opened(tmp_path)
    assert (dataset.classes, dataset.parts) == (("train", "tram"), {"train": (0, 2)})


def test_loops_of_links_end_and_no_image_counts_twice(tmp_path):
    """And the real folder is the one that counts: a link from test to train must not move images."""
    save(tmp_path / "train" / "a" / "0.png")
    save(tmp_path / "test" / "b" / "0.png")
    (tmp_path / "train" / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "test" / "a").symlink_to(tmp_path / "train" / "a")
    dataset = opened(tmp_path)
    assert (dataset.parts, dataset.classes) == ({"train": (0, 1), "test": (1, 2)}, ("a", "b"))


def test_a_linked_folder_from_elsewhere_is_read(tmp_path):
    save(tmp_path / "elsewhere" / "0.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    dataset = opened(tmp_path / "data")
    assert (dataset.classes, len(dataset), dataset.skipped) == (("cat",), 1, ("gone.png",))


# ------------------------------------------------------------------------------------------ what cannot be read


def noise(path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.gif", "x.bmp", "x.webp", "x.tif", "x.ppm"])
@pytest.mark.parametrize("keep", [0, 5, 0.5])
def test_an_empty_or_truncated_file_is_skipped_and_named(tmp_path, name, keep):
    save(tmp_path / "b" / "good.png", GREEN)
    bad = noise(tmp_path / "a" / name)
    data = bad.read_bytes()
    bad.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    dataset = opened(tmp_path)
    assert dataset.skipped == (f"a/{name}",)
    assert (dataset.classes, colours(dataset)) == (("b",), [list(GREEN)])


def test_what_is_not_an_image_is_skipped_and_the_list_is_sorted(tmp_path):
    for name in ("z.jpg", "a/y.png", "m.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    os.mkfifo(tmp_path / "pipe.png")
    save(tmp_path / "good.png")
    assert opened(tmp_path).skipped == ("a/y.png", "m.gif", "pipe.png", "z.jpg")


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX"])
def test_formats_outside_the_list_are_not_opened_whatever_the_name(tmp_path, kind):
    """Pillow guesses by content, and its rarer readers are where its faults are."""
    save(tmp_path / "good.png")
    save(tmp_path / "other.png", size=(16, 16), format=kind)
    assert opened(tmp_path).skipped == ("other.png",)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    save(tmp_path / "big.png", size=(40, 40))
    save(tmp_path / "small.png", size=(30, 30))
    monkeypatch.setattr(decoding, "MOST_PIXELS", 1000)
    assert opened(tmp_path).skipped == ("big.png",)


def test_a_header_of_a_billion_pixels_is_refused(tmp_path):
    save(tmp_path / "good.png")
    path = tmp_path / "bomb.bmp"
    save(path)
    data = bytearray(path.read_bytes())
    data[18:26] = struct.pack("<ii", 40_000, 40_000)
    path.write_bytes(data)
    assert opened(tmp_path).skipped == ("bomb.bmp",)


def test_missing_and_empty_folders_say_what_was_looked_for_and_where(tmp_path):
    with pytest.raises(ConfigError, match="--data folder:DIR"):
        Folder(Folder.Config(), location=None)
    with pytest.raises(DataError, match=r"no folder .*nowhere.*\.jpg"):
        opened(tmp_path / "nowhere")
    with pytest.raises(DataError, match=rf"no image in {tmp_path}.*\.png"):
        opened(tmp_path)
    (tmp_path / "bad.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the 1 images .*bad\.jpg: .*not an image Pillow can read") as refused:
        opened(tmp_path)
    assert "object at 0x" not in str(refused.value)


def test_floating_point_pixels_are_skipped(tmp_path):
    save(tmp_path / "good.png")
    Image.fromarray(np.ones((8, 8), dtype=np.float32)).save(tmp_path / "float.tif")
    assert opened(tmp_path).skipped == ("float.tif",)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01", b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\xff\xff"])
def test_damaged_metadata_costs_neither_the_image_nor_a_warning(tmp_path, exif):
    save(tmp_path / "a.jpg", exif=exif)
    dataset = opened(tmp_path)
    assert (len(dataset), dataset.skipped) == (1, ())


def test_the_size_is_a_field_with_bounds(tmp_path):
    save(tmp_path / "a.png", size=(5, 50))
    assert opened(tmp_path, size=48).signals([0]).shape == (1, 3, 48, 48)
    assert Folder.Config().size == 32
    with pytest.raises(ConfigError, match="size"):
        structure({"size": 7}, Folder.Config)


# ------------------------------------------------------------------------------------------ signals and digest


@pytest.fixture
def mixed(tmp_path):
    for i in range(40):
        draw = np.random.default_rng(i)
        (tmp_path / f"c{i % 3}").mkdir(exist_ok=True)
        image = Image.fromarray(draw.integers(0, 256, (9 + i, 20, 3), dtype=np.uint8))
        image.save(tmp_path / f"c{i % 3}" / f"{i}.png")
    (tmp_path / "c1" / "11.png").write_bytes(b"spoilt")
    return tmp_path


def test_signals_are_pure_and_within_the_range(mixed):
    dataset = opened(mixed)
    signals = dataset.signals(range(40))
    rows = [39, 0, 0, 17]
    assert signals.shape == (40, 3, 8, 8)
    assert signals.dtype == torch.float32
    assert -1 <= signals.min() < signals.max() <= 1
    assert torch.equal(dataset.signals(rows), signals[rows])


def test_a_set_too_large_to_keep_is_decoded_again_to_the_same(mixed, monkeypatch):
    kept = opened(mixed)
    monkeypatch.setattr(folder, "MEMORY", 100)
    again = opened(mixed)
    assert again._pixels is None
    assert torch.equal(kept.signals(range(40)), again.signals(range(40)))
    assert (kept.digest(), kept.skipped) == (again.digest(), again.skipped)
    victim = again._entries[5].name
    (mixed / victim).write_bytes(b"gone")
    with pytest.raises(DataError, match=f"{victim}: could be read when"):
        again.signals([4, 5])


def test_the_digest_follows_bytes_names_and_transform_and_nothing_else(mixed, tmp_path_factory):
    digests = [opened(mixed).digest(), opened(mixed, size=9).digest()]
    copy = tmp_path_factory.mktemp("copy") / "elsewhere"
    os.rename(mixed, copy)
    assert opened(copy).digest() == digests[0]
    (copy / "c0" / "0.png").rename(copy / "c0" / "00.png")
    digests.append(opened(copy).digest())
    save(copy / "c0" / "00.png", GREEN)
    digests.append(opened(copy).digest())
    (copy / "c0" / "00.png").unlink()
    digests.append(opened(copy).digest())
    assert len(set(digests)) == 5
