"""One image file to pixels: every common format, upright, opaque, the centre square, antialiased."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from dvgen_images.decoding import decode

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 210)


def pixels_of(image, size=8, **options):
    file = io.BytesIO()
    image.save(file, **({"format": "PNG"} | options))
    return decode(file.getvalue(), size).astype(int)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_every_format_is_read(kind):
    found = pixels_of(Image.new("RGB", (8, 8), RED), format=kind)
    assert found.shape == (3, 8, 8)
    assert abs(found - np.array(RED)[:, None, None]).max() <= 3


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024
    assert (pixels_of(Image.fromarray(values)) == values.astype(int) // 256).all()


def test_cmyk_is_converted():
    found = pixels_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), format="JPEG")
    assert (found[0] > 180).all()
    assert (found[1:] < 80).all()


@pytest.mark.parametrize(("mode", "colour"), [("L", 77), ("1", 1), ("P", 3), ("YCbCr", (120, 90, 160)), ("LAB", (90, 10, 20))])
def test_other_modes_are_converted_as_pillow_does(mode, colour):
    image = Image.new(mode, (8, 8), colour)
    if mode == "P":
        image.putpalette([c for colour in (RED, GREEN, BLUE, (1, 2, 3)) for c in colour])
    expected = np.asarray(image.convert("RGB") if mode != "LAB" else reread(image)).transpose(2, 0, 1)
    assert (pixels_of(image, format="TIFF") == expected).all()


def reread(image):
    """Pillow converts LAB only by way of a profile; the file says what it is."""
    file = io.BytesIO()
    image.save(file, format="TIFF")
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_is_laid_over_white(mode):
    if mode == "RGBA":
        image, options, expected = Image.new("RGBA", (8, 8), (*RED, 128)), {}, [(c * 128 + 255 * 127) / 255 for c in RED]
    elif mode == "LA":
        image, options, expected = Image.new("LA", (8, 8), (0, 51)), {}, [204] * 3
    elif mode == "P":
        image, options, expected = Image.new("P", (8, 8), 0), {"transparency": 0}, [255] * 3
    else:
        image, options, expected = Image.new("RGB", (8, 8), RED), {"transparency": RED}, [255] * 3
    assert abs(pixels_of(image, **options) - np.array(expected)[:, None, None]).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_rotation_of_exif_is_applied(orientation):
    """Store an image as a camera would for each orientation (EXIF 2.3, tag 274): what is read is the upright one."""
    upright = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    turned = upright[::-1, ::-1]
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: turned,
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: turned.transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored[orientation]))
    assert (pixels_of(image, exif=exif) == upright.transpose(2, 0, 1)).all()


def test_an_image_of_the_right_size_is_untouched():
    values = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert (pixels_of(Image.fromarray(values), size=32) == values.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("size", [(48, 16), (16, 48), (240, 80)])
def test_the_centre_square_is_what_remains(size):
    """Thirds of red, green and blue along the longer side: green is left, but for what the filter sees beyond the edge."""
    image = Image.new("RGB", size, GREEN)
    third = max(size) // 3
    image.paste(RED, (0, 0, third, size[1]) if size[0] > size[1] else (0, 0, size[0], third))
    image.paste(BLUE, (2 * third, 0, *size) if size[0] > size[1] else (0, 2 * third, *size))
    assert (pixels_of(image)[:, 2:-2, 2:-2] == np.array(GREEN)[:, None, None]).all()
    assert abs(pixels_of(image) - np.array(GREEN)[:, None, None]).max() < 30


@pytest.mark.parametrize("size", [(48, 16), (40, 80), (32, 32), (8, 24)])
def test_it_equals_resizing_the_shorter_side_and_cutting_the_centre(size):
    """As torchvision does it on float tensors, to rounding."""
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    smaller = [side * 8 // min(size) for side in reversed(size)]
    whole = torch.from_numpy(values.transpose(2, 0, 1)).double()
    resized = functional.resize(whole, smaller, functional.InterpolationMode.BICUBIC, antialias=True)
    expected = functional.center_crop(resized, [8, 8]).clamp(0, 255).numpy()
    assert abs(pixels_of(Image.fromarray(values)) - expected).max() <= 1.5


def test_shrinking_is_antialiased():
    """Stripes one pixel wide become even grey, whichever rows a careless resize would have picked."""
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[::2] = 255
    assert abs(pixels_of(Image.fromarray(stripes)) - 127.5)[:, 1:-1].max() <= 3
