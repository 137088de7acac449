"""Property P40, and the part of P38 that needs no compiler: memory, and waiting for the device.

Shapes: n positions, d width, k codes.
"""

from typing import Any

from attrs import evolve
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dvgen.contracts.law import law, require
from dvgen.contracts.quantizer_subject import Example, Subject, objective, run, twin_of
from dvgen.contracts.quantizer_updates import updates

POSITIONS = 2**14
"""Enough that anything that grows with their square is a gigabyte."""

NUMBERS = 24
"""Floats that may live at once for each position, and channel of each level, forward and backward."""

CHUNK = 2**25
"""Bytes that may live at once however few positions there are: chunks of scores."""


@law(
    "P40",
    "memory grows with the positions times the width: no square of positions, no table of all codes a position",
    once=True,
)
def memory(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z = evolve(example, batch=4, grid=(POSITIONS // 4,)).features(quantizer.dim).requires_grad_()
    levels = quantizer.levels((POSITIONS // 4,))
    width = (quantizer.dim + 2) * len(levels)
    if quantizer.traits.estimator == "softmax":
        # its gradient is a probability of every code
        width += sum(level.num_codes for level in levels)
    with _LiveBytes() as live:
        out = run(quantizer, z)
        if out.vectors.requires_grad:
            objective(out).backward()
        quantizer.update(out.pending)
    allowed = CHUNK + 4 * NUMBERS * POSITIONS * width
    require(
        live.peak <= allowed,
        f"{live.peak / 2**20:.0f} MiB live at once for {POSITIONS} positions, allowed {allowed / 2**20:.0f}",
    )


@law("P38", "an update waits for nothing: it looks at no value, and stays on the device of the state", applies=updates)
def update_does_not_wait(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    pending = run(quantizer, example.features(quantizer.dim)).pending
    # tensors of the meta device have shapes and no values: looking at one, or mixing it with another device, is an error
    shapes = twin_of(quantizer).to("meta")
    try:
        shapes.update({name: value.to("meta") for name, value in pending.items()})
    except (RuntimeError, NotImplementedError) as error:
        require(False, f"update looks at a value, or makes tensors on a device of its own: {error}")


class _LiveBytes(TorchDispatchMode):
    """The most bytes of tensors made inside that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in given:
                storage = leaf.untyped_storage()
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return result
