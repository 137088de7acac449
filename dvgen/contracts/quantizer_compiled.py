"""Property P38: under `torch.compile` a quantizer is the same, in one graph.

Shapes: b batch, d width, *grid positions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from dvgen.contracts.law import law, require, require_close, require_equal
from dvgen.contracts.quantizer_subject import Example, Subject, objective, outputs, run
from dvgen.interfaces.quantizer import Quantized, Quantizer

ROUNDING = 1e-4
"""Of sums and of computed vectors, which a compiler may take in another order."""

EXAMPLES = (Example(mask="some"), Example(train=False), Example(train=False, mask="some", junk=1), Example())


@law("P38", "compiled in one graph, forward, backward, encode and decode give what they give in eager mode", once=True)
def compiled_is_eager(subject: Subject, example: Example) -> None:
    with _compiler():
        # ahead of time where there is a backward pass to trace
        _check(subject, EXAMPLES[0], "aot_eager")
        _check(subject, EXAMPLES[1], "eager")
        quantizer = subject.prepared(example)
        z = example.features(quantizer.dim)
        codes = quantizer.encode(z)
        for code, expected in zip(_compiled(quantizer.encode, "eager")(z), codes, strict=True):
            require_equal(code, expected, "compiled encode")
        decoded = _compiled(quantizer.decode, "eager")(codes)
        require_close(decoded, quantizer.decode(codes), "compiled decode", relative=ROUNDING)


@law("P38", "compiled to machine code, forward and backward give what they give in eager mode", slow=True, once=True)
def inductor_is_eager(subject: Subject, example: Example) -> None:
    with _compiler():
        for one in EXAMPLES:
            _check(subject, one, "inductor")


@law("P38", "compiled code cannot raise: a bad value sets stats['finite'] to 0, and every output stays finite", once=True)
def bad_values_compiled(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    with _compiler():
        compiled = _compiled(quantizer, "eager")
        for bad in (torch.nan, torch.inf):
            z = example.features(quantizer.dim)
            z[0, 0] = bad
            out = run(compiled, z)
            require(
                float(out.stats["finite"]) == 0,
                f"stats['finite'] is {float(out.stats['finite'])} with {bad} among the features",
            )
            for name, value in outputs(out).items():
                require(value.isfinite().all(), f"{name} is not finite with {bad} among the features")
        clean = run(compiled, example.features(quantizer.dim))
        require(float(clean.stats["finite"]) == 1, "stats['finite'] is 0 with finite features")


@law("P38", "one compilation with dynamic shapes serves all batch sizes", once=True)
def no_recompilation(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    with _compiler():
        compiled = _compiled(quantizer, "eager", dynamic=True)
        # not the size of another axis: the compiler takes those that are equal once to be equal always
        run(compiled, _features(quantizer, quantizer.dim + 20))
        with torch.compiler.set_stance("fail_on_recompile"):
            # sizes 0 and 1 are always compiled for themselves
            for batch in (5, 2, 64):
                run(compiled, _features(quantizer, batch))


def _check(subject: Subject, example: Example, backend: str) -> None:
    quantizer, same = subject.prepared(example), subject.prepared(example)
    clean, mask = example.covered(example.features(quantizer.dim)), example.valid()
    z, again = clean.clone().requires_grad_(), clean.clone().requires_grad_()
    out, found = run(quantizer, z, mask), run(_compiled(same, backend), again, mask)
    where = f"compiled by {backend}, {'training' if example.train else 'evaluation'}, mask {example.mask}"
    if quantizer.deterministic or not example.train:
        _require_same(found, out, where)
    if not out.vectors.requires_grad:
        return
    objective(out).backward()
    objective(found).backward()
    if quantizer.deterministic or not example.train:
        pairs = [("features", again.grad, z.grad)]
        for (name, parameter), (_, expected) in zip(same.named_parameters(), quantizer.named_parameters(), strict=True):
            pairs.append((name, parameter.grad, expected.grad))
        for name, one, two in pairs:
            require_close(_or_zero(one), _or_zero(two), f"gradient of {name}, {where}", relative=ROUNDING, absolute=1e-12)


def _require_same(found: Quantized, expected: Quantized, where: str) -> None:
    for code, other in zip(found.codes, expected.codes, strict=True):
        require_equal(code, other, f"codes, {where}")
    wanted = outputs(expected)
    require(outputs(found).keys() == wanted.keys(), f"names of losses, stats or pending, {where}")
    for name, value in outputs(found).items():
        # the certified share of a search may be another one compiled
        if not name.startswith("stats.certified"):
            require_close(value, wanted[name], f"{name}, {where}", relative=ROUNDING, absolute=1e-6)


def _compiled(what: Any, backend: str, *, dynamic: bool | None = None) -> Any:
    return torch.compile(what, backend=backend, fullgraph=True, dynamic=dynamic)


@contextmanager
def _compiler() -> Iterator[None]:
    """A compiler that remembers nothing of other code, and leaves nothing behind."""
    torch.compiler.reset()
    try:
        yield
    finally:
        torch.compiler.reset()


def _features(quantizer: Quantizer, batch: int) -> Tensor:
    return Example(batch=batch, grid=(5, 7)).features(quantizer.dim).requires_grad_()


def _or_zero(gradient: Tensor | None) -> Tensor:
    return torch.zeros(()) if gradient is None else gradient
