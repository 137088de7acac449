"""Properties P20, P21, P27 and P41: where a quantizer keeps its state, and that nothing but `update` moves it.

Shapes: b batch, d width, *grid positions, n features, k codes.
"""

import pickle
from functools import partial
from typing import Any

import torch
from attrs import evolve
from torch import Tensor, nn

from dvgen.contracts.law import law, must_raise, require, require_equal
from dvgen.contracts.module_state import plain_values, require_state, state_of, through_file
from dvgen.contracts.quantizer_subject import (
    SAMPLES,
    Example,
    Subject,
    as_map,
    masked_like,
    objective,
    outputs,
    run,
    twin_of,
)
from dvgen.errors import DvgenError
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.quantizer import Quantized, Quantizer

LATER = 7
"""A step whose `schedule` differs from that of the first."""


@law("P20", "forward, backward, encode and decode change no state, nor random state where nothing is sampled")
def pure(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z, mask = example.covered(example.features(quantizer.dim)).requires_grad_(), example.valid()
    before, hidden, noise = state_of(quantizer), plain_values(quantizer), torch.get_rng_state()
    codes = quantizer.encode(z, mask)
    quantizer.decode(codes)
    require_equal(torch.get_rng_state(), noise, "random state after encode and decode")
    out = quantizer(z, mask)
    if quantizer.deterministic or not example.train:
        require_equal(torch.get_rng_state(), noise, "random state after forward")
    if out.vectors.requires_grad:
        objective(out).backward()
    require_state(quantizer, before, "after forward, encode and decode")
    require(plain_values(quantizer) == hidden, "attributes that are no tensors differ after forward, encode and decode")


@law("P20", "an update from nothing moves nothing")
def update_from_nothing(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    before, hidden = state_of(quantizer), plain_values(quantizer)
    pending = run(quantizer, example.features(quantizer.dim)).pending
    quantizer.update({name: torch.zeros_like(value) for name, value in pending.items()})
    require_state(quantizer, before, "after an update from nothing")
    require(plain_values(quantizer) == hidden, "attributes that are no tensors differ after an update from nothing")


@law("P21", "state_dict, deepcopy and pickle carry all state: the next training step of a copy is the same, bit for bit")
def round_trips(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    quantizer.schedule(LATER)
    saved = quantizer.state_dict()
    require(all(isinstance(value, Tensor) for value in saved.values()), "state_dict holds something that is not a tensor")
    copies = {
        "state_dict": _restored(subject, example, saved),
        "torch.save of state_dict": _restored(subject, example, through_file(saved)),
        "deepcopy": twin_of(quantizer),
        "pickle": pickle.loads(pickle.dumps(quantizer)),  # noqa: S301 - made on the line itself
    }
    _require_same_state(quantizer, copies)
    expected = _step(quantizer, example)
    for way, copy in copies.items():
        for name, value in _step(copy, example).items():
            require_equal(value, expected[name], f"{name} after {way} and a training step")


@law("P27", "outputs alias neither state nor input, and neither is written to")
def no_aliasing(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    clean, mask = example.features(quantizer.dim), example.valid()
    z, valid = clean.clone(), None if mask is None else mask.clone()
    out = run(quantizer, z, valid)
    expected = {name: value.detach().clone() for name, value in outputs(out).items()}
    before, codes = state_of(quantizer), tuple(code.clone() for code in out.codes)
    for result in (*outputs(out).values(), *quantizer.encode(z, valid)):
        _spoil(result)
    given = tuple(code.clone() for code in codes)
    _spoil(quantizer.decode(given))
    for code, kept in zip(given, codes, strict=True):
        require_equal(code, kept, "codes after the vectors they decode to were overwritten")
    require_equal(z, clean, "the features after the outputs were overwritten")
    require(mask is None or torch.equal(mask, valid), "the mask changed")  # type: ignore[arg-type]
    require_state(quantizer, before, "after the outputs were overwritten")
    for name, value in outputs(run(quantizer, z, valid)).items():
        require_equal(value.detach(), expected[name], f"{name} of the next forward after outputs were overwritten")


@law("P27", "update and initialise keep no reference to what they are given, and do not write to it")
def keeps_no_argument(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    pending = run(quantizer, example.features(quantizer.dim)).pending
    rows = example.rows(SAMPLES, quantizer.dim)
    for act, given in ((quantizer.update, pending), (lambda rows: quantizer.initialise(rows["z"]), {"z": rows})):
        kept = {name: value.clone() for name, value in given.items()}
        act(given)  # type: ignore[no-untyped-call, operator]
        for name, value in given.items():
            require_equal(value, kept[name], f"{name} after it was given to update or initialise")
        before = state_of(quantizer)
        for value in given.values():
            _spoil(value)
        require_state(quantizer, before, "after the arguments of update or initialise were overwritten")


@law("P41", "decode works with another state under functional_call, and under vmap")
def decode_is_functional(subject: Subject, example: Example) -> None:
    quantizer, other = subject.prepared(example), subject.prepared(evolve(example, seed=example.seed + 1))
    z, mask = example.covered(example.features(quantizer.dim)), example.valid()
    codes = quantizer.encode(z, mask)
    quantizer.decode(codes)  # a chance to keep what it should not
    state = {f"quantizer.{name}": value for name, value in state_of(other).items()}
    called: Tensor = torch.func.functional_call(_Decoder(quantizer), state, (codes,))
    require_equal(called, other.decode(codes), "decode with the state of another quantizer")
    stacked = tuple(torch.stack([code, masked_like(code), code]) for code in codes)
    mapped = torch.vmap(lambda *one: quantizer.decode(one))(*stacked)
    plain = torch.stack([quantizer.decode(tuple(code[i] for code in stacked)) for i in range(3)])
    require_equal(mapped, plain, "decode under vmap")


@law("P41", "a code out of range raises under vmap too", once=True)
def out_of_range_under_vmap(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    codes = quantizer.encode(example.features(quantizer.dim))
    for i, level in enumerate(quantizer.levels(example.grid)):
        wrong = [torch.stack([code, code]) for code in codes]
        wrong[i][(-1,) * wrong[i].ndim] = level.num_codes
        decode = torch.vmap(lambda *one: quantizer.decode(one))
        must_raise(partial(decode, *wrong), DvgenError, f"decode of code {level.num_codes} of level {level.name} under vmap")


class _Decoder(nn.Module):
    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, codes: Codes) -> Tensor:
        return self.quantizer.decode(codes)


def _require_same_state(quantizer: Quantizer, copies: dict[str, Quantizer]) -> None:
    for way, copy in copies.items():
        require_state(copy, state_of(quantizer), f"after {way}")
        require(way.endswith("state_dict") or copy.training == quantizer.training, f"{way} changed the mode")


def _restored(subject: Subject, example: Example, saved: dict[str, Any]) -> Quantizer:
    fresh = subject.fresh(example.seed + 1).train(example.train)
    fresh.load_state_dict(saved, strict=True)
    return fresh


def _step(quantizer: Quantizer, example: Example) -> dict[str, Tensor]:
    """What one training step returns and leaves behind: outputs, gradients, state."""
    quantizer.train()
    z = as_map(example.rows(SAMPLES, quantizer.dim, salt=9)).requires_grad_()
    out: Quantized = run(quantizer, z, seed=3)
    objective(out).backward()
    quantizer.update(out.pending)
    gradients = {f"gradient of {name}": p.grad for name, p in quantizer.named_parameters() if p.grad is not None}
    gradients["gradient of z"] = torch.zeros_like(z) if z.grad is None else z.grad
    return {name: value.detach() for name, value in outputs(out).items()} | gradients | state_of(quantizer)


def _spoil(tensor: Tensor) -> None:
    """Overwrite a tensor in place."""
    tensor.detach().fill_(torch.nan if tensor.is_floating_point() else 1)
