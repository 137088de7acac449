"""One image file to pixels: any common format, upright, opaque, 8 bits, RGB, square."""

import io
import warnings

import numpy as np
import PIL
from einops import rearrange
from PIL import Image, ImageOps, UnidentifiedImageError, features

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MOST_PIXELS = 1 << 27  # about 134 million; more, in a file of a data set, is a decompression bomb
TRANSFORM = "upright, over white, centre square, bicubic antialiased, RGB, 8 bits"


def decode(data: bytes, size: int) -> np.ndarray:
    """Pixels uint8 (3, size, size) of an image file: its largest centred square, resampled with antialiasing.

    That is the shorter side resized to `size` and the centre cut out, in one step. Rotation recorded in EXIF is applied,
    transparency is laid over white, 16-bit grey keeps its upper 8 bits, an animation gives its first frame.
    Raises one of many exceptions when the file cannot be read.
    """
    with _opened(data) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise ValueError(f"{width} x {height} pixels, more than {MOST_PIXELS}")
        image.load()
        opaque = _rgb(_upright(image))
    return rearrange(np.asarray(_square(opaque, size)), "h w c -> c h w")


def silence() -> None:
    """Pillow warns about odd metadata of files that it reads well; that is not for the user of a data set.

    Warning filters belong to the process, and files are decoded in threads that overlap: a filter that were taken away again
    would be taken from another thread, so this one stays.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


def versions() -> str:
    """Those of Pillow and of the libraries it decodes with, on which the last bit of a pixel may depend."""
    return f"Pillow {PIL.__version__}, " + ", ".join(f"{name} {features.version(name)}" for name in ("jpg", "webp", "libtiff"))


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:  # its text shows the buffer as Python does, which tells a user nothing
        raise UnidentifiedImageError("not an image Pillow can read") from None


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata must not cost the image, and raises nearly anything
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose range is unknown")
    if image.mode.startswith("I"):  # Pillow's conversion would clip 16 bits to 255, not scale them
        grey = np.asarray(image).clip(0, 65535).astype(np.uint16) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _square(image: Image.Image, size: int) -> Image.Image:
    # the filter sees a little beyond the box, as it would if the whole image were resized and then cut
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)
