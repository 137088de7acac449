"""What a causal convolution remembers of the row under way, while codes are drawn one position after the other.

Shapes: b batch, w columns, d channels, n taps.
"""

from collections.abc import Sequence

from torch import Tensor


class OwnRow:
    """The columns of one row, filled from the left, and the window of n taps that ends at each of them; zeros left of the row.

    A row need not be cleared for the next one: no window shows what is right of its end. With a dilation, every dilation-th
    column lies side by side, so that a window is one piece of memory there too, and a convolution one matrix product.

    slots: one view (b, d) a column, to be written to. windows: one view (b, n * d) a column; they end at that column itself,
    or, if strict, before it. All views are cut here, once: cutting them at every position costs as much as using them.
    """

    def __init__(self, like: Tensor, size: tuple[int, int, int], taps: int, *, dilation: int = 1, strict: bool = False) -> None:
        """An empty row of size (b, w, d), of the type and on the device of `like`."""
        batch, width, channels = size
        left = taps if strict else taps - 1
        phases = like.new_zeros(dilation, batch, left + -(-width // dilation), channels)
        self.columns = phases[:, :, left:]
        self.slots = _in_turn([phase.unbind(1) for phase in self.columns], width)
        windows = phases.flatten(2).unfold(2, taps * channels, channels)
        self.windows = _in_turn([phase.unbind(1) for phase in windows], width)


def _in_turn(phases: Sequence[Sequence[Tensor]], count: int) -> list[Tensor]:
    """The first of each, then the second of each, and so on."""
    return [phases[i % len(phases)][i // len(phases)] for i in range(count)]
