"""Property P28: half precision, autocast and float64.

Shapes: b batch, d width, *grid positions, n features.
"""

import torch
from attrs import evolve
from torch import nn

from dvgen.contracts.law import law, require, require_equal
from dvgen.contracts.module_state import require_state, state_of
from dvgen.contracts.quantizer_subject import SAMPLES, Example, Subject, outputs, run


@law("P28", "in a model cast to half precision the state stays float32, and codes and updates are those of float32")
def half_precision(subject: Subject, example: Example) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        narrow = evolve(example, dtype=dtype)
        wide, cast = subject.prepared(narrow), subject.prepared(narrow)
        nn.Sequential(cast).to(dtype)
        values = state_of(cast).items()
        narrower = [name for name, value in values if value.is_floating_point() and value.dtype.itemsize < 4]
        require(not narrower, f"{', '.join(narrower)} became {dtype}")
        require_state(cast, state_of(wide), f"after a cast to {dtype}")
        z, mask = narrow.features(wide.dim), narrow.valid()
        for step in range(3):
            out, reference = run(cast, z, mask, step), run(wide, z.float(), mask, step)
            for code, expected in zip(out.codes, reference.codes, strict=True):
                require_equal(code, expected, f"codes after a cast to {dtype}")
            require_equal(out.vectors, reference.vectors.to(dtype), f"vectors after a cast to {dtype}")
            cast.update(out.pending)
            wide.update(reference.pending)
            require_state(cast, state_of(wide), f"after a cast to {dtype} and an update")


@law("P28", "autocast changes no output")
def autocast(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z, mask = example.covered(example.features(quantizer.dim)), example.valid()
    plain = outputs(run(quantizer, z, mask))
    encoded = quantizer.encode(z, mask)
    # torch's CPU autocast knows one narrow type at a time
    with torch.autocast("cpu", dtype=torch.float16 if example.dtype == torch.float16 else torch.bfloat16):
        inside = outputs(run(quantizer, z, mask))
        for code, expected in zip(quantizer.encode(z, mask), encoded, strict=True):
            require_equal(code, expected, "encode under autocast")
        decoded = quantizer.decode(encoded)
    for name, value in inside.items():
        require_equal(value, plain[name], f"{name} under autocast")
    require_equal(decoded, quantizer.decode(encoded), "decode under autocast")


@law("P28", "a quantizer cast to float64 quantizes and updates in float64")
def double_precision(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example).double()
    z, mask = example.features(quantizer.dim).double(), example.valid()
    out = run(quantizer, example.covered(z), mask)
    quantizer.update(out.pending)
    quantizer.initialise(example.rows(SAMPLES, quantizer.dim).double())
    require(out.vectors.dtype == torch.float64, f"vectors of float64 features are {out.vectors.dtype}")
    for name, value in (outputs(out) | state_of(quantizer)).items():
        require(value.isfinite().all(), f"{name} is not finite after .double()")
    for name, value in state_of(quantizer).items():
        require(not value.is_floating_point() or value.dtype == torch.float64, f"{name} is {value.dtype} after .double()")
