"""What a neural prior has to beat: count models of growing context, and a general compressor."""

import lzma
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dvgen.errors import ShapeError
from dvgen.evaluation.counting import NEIGHBOURS, POSITION, Conditional, Floats, Unigram
from dvgen.interfaces.codes import Codes, Level, check_codes
from dvgen.seeding import fold

CONDITIONALS = {
    "position unigram": (POSITION,),
    "left": ("left",),
    "left+up": ("left", "up"),
    "four neighbours": tuple(NEIGHBOURS),
}
"""What each count model with a context is given."""
LADDER = ("uniform", "unigram", *CONDITIONALS)
"""The count models, in the order of their contexts."""
MOST_CODES = 2**22
"""Codes of a level that are counted: four million take about half a minute and a gigabyte."""
AT_ONCE = 2**18
"""Codes whose likelihood is looked up at a time, each in a table for every choice of neighbours: 64 MiB."""
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]


def most_counted(levels: Sequence[Level]) -> int:
    """Training images of which `ladder` counts any level: what it has no use for need not be read."""
    return max(max(MOST_CODES // level.length, 1) for level in levels)


def ladder(levels: Sequence[Level], train: Codes, test: Codes, pause: Callable[[], None] = lambda: None) -> dict[str, Floats]:
    """Negative log-probability in nats of every test image, (levels, n) by name, in the order of LADDER.

    Every level by itself, counted on the first training images of at most MOST_CODES codes, which should be in random order.
    In one dimension left, up, upper left and upper right are the codes 1, 2, 3 and 4 back. A longer context is not always
    better: where it is mostly unseen, four neighbours fall behind two. `pause` is called now and then, and may raise to stop.
    Raises ShapeError for masked codes and for codes of other levels.
    """
    check_codes(train, levels)
    check_codes(test, levels)
    rows = [_level(level, one, other, pause) for level, one, other in zip(levels, train, test, strict=True)]
    return {name: np.stack([row[name] for row in rows]) for name in LADDER}


def _level(level: Level, train: Tensor, test: Tensor, pause: Callable[[], None]) -> dict[str, Floats]:
    counted = train[: max(MOST_CODES // level.length, 1)]
    found = {
        "uniform": np.full(len(test), level.length * math.log(level.num_codes)),
        "unigram": Unigram.fit(counted, level.num_codes).nats(test),
    }
    for name, given in CONDITIONALS.items():
        pause()
        model, parts = Conditional.fit(counted, level.num_codes, given), []
        for part in test.split(max(AT_ONCE // level.length, 1)):
            pause()
            parts.append(model.nats(part))
        found[name] = np.concatenate(parts)
    return found


def lzma_bits(levels: Sequence[Level], codes: Codes) -> float:
    """Bits an image, all levels together, of LZMA on these images' codes: each level one run of bytes, image after image in
    raster order, 1, 2 or 4 bytes a code, whichever is the least that holds it, without a container's header.

    The compressor has learned nothing from training images and starts anew on these; it also sees each image after all
    those before it. So this is a length that was achieved, not a likelihood, and is ranked with none.
    Raises ShapeError for masked codes and for codes of other levels.
    """
    check_codes(codes, levels)
    total = 0
    for level, code in zip(levels, codes, strict=True):
        if not code.numel() or int(code.min()) < 0:
            raise ShapeError(f"level {level.name!r}: expected codes to compress, and no masked ones")
        packed = code.cpu().numpy().astype(np.min_scalar_type(level.num_codes - 1))
        total += len(lzma.compress(packed.tobytes(), format=lzma.FORMAT_RAW, filters=FILTERS))
    return 8 * total / len(codes[0])


def unigram_samples(levels: Sequence[Level], train: Codes, n: int, seed: int) -> Codes:
    """n draws of codes that are independent at every position, with the shares of the unigram of the training codes.

    What a prior's samples would be if it had learned how frequent codes are, and nothing of where they stand.
    """
    check_codes(train, levels)
    drawn = []
    for level, code in zip(levels, train, strict=True):
        share = torch.from_numpy(np.exp(Unigram.fit(code, level.num_codes).log_probs))
        generator = torch.Generator().manual_seed(fold(seed, "unigram", level.name))
        flat = torch.multinomial(share, n * level.length, replacement=True, generator=generator)
        drawn.append(flat.reshape(n, *level.grid))
    return tuple(drawn)
