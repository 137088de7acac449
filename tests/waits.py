"""Where the host would wait for a device: operations whose result it must see before it can go on."""

import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {
    "_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "masked_select", "bincount",
    "_unique", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave",
}  # fmt: skip
"""Operations of a device that give the host a number, or a tensor of a size that depends on values."""
INDEXING = {"index", "index_put", "index_put_"}
"""The same where they are given a mask."""
COPYING = {"tolist", "cpu", "numpy"}
"""Methods that bring a tensor to the host; one that is there already does not reach an operation."""
OURS = ("dvgen", "plugins")


class Copies(TorchFunctionMode):
    """Counts what brings a tensor to the host."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if getattr(func, "__name__", "") in COPYING:
            self.found[_asker()] += 1
        return func(*args, **(kwargs or {}))


class Waits(TorchDispatchMode):
    """Counts what gives the host a number."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = [part for part in (args[1] if name in INDEXING else ()) if part is not None]
        if name in WAITING or any(mask.dtype == torch.bool for mask in masks):
            self.found[_asker()] += 1
        return func(*args, **(kwargs or {}))


def _asker() -> str:
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        ours = any(part.split("_")[0] in OURS for part in path.parts) and "site-packages" not in path.parts
        if ours and not frame.name.startswith("<"):  # the function around a comprehension
            return f"{path.name}:{frame.name}"
    return "elsewhere"


def waits_in(call: Callable[[], object]) -> Counter[str]:
    """Where a call would make the host wait, by the innermost of dvgen's functions, and how often: {"rows.py:to_rows": 1}."""
    found: Counter[str] = Counter()
    with Copies(found), Waits(found):
        call()
    return found
