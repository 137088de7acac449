"""Property P39: several processes that share a batch train as one does.

What is promised. State moves alike on all ranks, bit for bit, and as in one process on the whole batch, to rounding, however
the batch is shared. Losses and gradients are means over the part of each rank, which DDP averages: they are those of the whole
batch when the parts are equal. A loss that is the same on all ranks although their parts are not depends on the whole batch,
and has to be that of the whole batch whatever the parts.

The processes are started anew and receive the quantizer pickled, built where no process group existed: its class has to be
importable by its name, and a script that runs this check has to guard its entry by `if __name__ == "__main__"`. (Forking would
ask for neither, but autograd does not survive a fork.)

Shapes: b batch, d width, *grid positions.
"""

import multiprocessing
import pickle
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from dvgen.contracts.law import law, require, require_close, require_equal
from dvgen.contracts.module_state import require_state, state_of
from dvgen.contracts.quantizer_subject import Example, Subject, run, twin_of
from dvgen.contracts.quantizer_updates import updates
from dvgen.interfaces.quantizer import Quantizer

BATCH = Example(batch=6, grid=(5,))
"""The whole batch of a step; every step has other features."""

SHARES = ((2, 4), (6, 0), (3, 3))
"""How many samples each rank takes, a step each: uneven, one rank without any, even."""

WAIT = 120.0
"""Seconds after which a process that still waits for another is given up."""

ROUNDING = 1e-4
"""Relative to the largest value: the same sums, taken in another order."""


@law("P39", "updates from summed statistics end alike on every rank, whatever its random state", applies=updates)
def ranks_update_alike(subject: Subject, example: Example) -> None:
    whole = subject.prepared(example)
    ranks = [twin_of(whole) for _ in range(2)]
    z, mask = example.covered(example.features(whole.dim)), example.valid()
    sizes = [example.batch // 3, example.batch - example.batch // 3]
    masks = [None, None] if mask is None else mask.split(sizes)
    for step in range(3):
        parts = [run(rank, part, valid, step).pending for rank, part, valid in zip(ranks, z.split(sizes), masks, strict=True)]
        for seed, rank in enumerate(ranks):
            torch.manual_seed(seed)
            rank.update({name: torch.stack([part[name] for part in parts]).sum(dim=0) for name in parts[0]})
        require_state(ranks[1], state_of(ranks[0]), f"on the second rank after {step + 1} updates")


@law("P39", "two processes train as one, on uneven and empty parts, and one of them may evaluate alone", slow=True, once=True)
def two_processes(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example).train()
    payload = pickle.dumps(quantizer)
    first, second = _on_two_ranks(payload)
    for step, shares in enumerate(SHARES):
        alone = _step(quantizer, step, (0, sum(shares)), seed=0)
        for name, value in alone["state"].items():
            require_equal(
                second[step]["state"][name], first[step]["state"][name], f"{name} on the second rank after step {step}"
            )
            require_close(first[step]["state"][name], value, f"{name} of two processes after step {step}", relative=ROUNDING)
        if quantizer.deterministic:
            _check_losses(first[step]["losses"], second[step]["losses"], alone["losses"], shares)
            if shares[0] == shares[1]:
                _check_gradients(first[step], second[step], alone)


def _check_losses(
    first: dict[str, Tensor], second: dict[str, Tensor], alone: dict[str, Tensor], shares: tuple[int, int]
) -> None:
    for name, value in alone.items():
        shared = bool(first[name] == second[name])
        if shared or shares[0] == shares[1]:
            what = f"loss {name}, {'shared by' if shared else 'averaged over'} parts of {shares[0]} and {shares[1]}"
            require_close((first[name] + second[name]) / 2, value, what, relative=ROUNDING, absolute=1e-6)


def _check_gradients(first: dict[str, Any], second: dict[str, Any], alone: dict[str, Any]) -> None:
    """Of parameters: averaged, as DDP does. Of features: twice as large as alone, which that average undoes."""
    for name, value in alone["gradients"].items():
        mean = (first["gradients"][name] + second["gradients"][name]) / 2
        require_close(mean, value, f"gradient of {name}, averaged over equal parts", relative=ROUNDING, absolute=1e-7)
    features = torch.cat([first["features"], second["features"]]) / 2
    require_close(features, alone["features"], "gradient of the features, in equal parts", relative=ROUNDING, absolute=1e-7)


def _step(quantizer: Quantizer, step: int, part: tuple[int, int], seed: int) -> dict[str, Any]:
    """One training step on samples part[0] to part[1] of the batch: what a rank ends with, and one process alone too."""
    z = BATCH.features(quantizer.dim, salt=step)[slice(*part)].requires_grad_()
    torch.manual_seed(seed)
    out = quantizer(z)
    quantizer.zero_grad()
    losses = torch.stack([z.sum() * 0, *out.losses.values()]).sum()
    losses.backward()
    quantizer.update({name: _summed(value) for name, value in sorted(out.pending.items())})
    return {
        "state": state_of(quantizer),
        "losses": {name: value.detach() for name, value in out.losses.items()},
        "gradients": {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in quantizer.named_parameters()},
        "features": z.grad,
    }


def _summed(value: Tensor) -> Tensor:
    if distributed.is_initialized():
        distributed.all_reduce(value)
    return value


def _rank(rank: int, folder: str, payload: bytes) -> None:
    """What one process does; what it raises goes to a file, for the process that started it."""
    torch.set_num_threads(1)
    try:
        _train_and_evaluate(rank, folder, payload)
    except Exception as error:
        (Path(folder) / f"{rank}.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        raise SystemExit(1) from None


def _train_and_evaluate(rank: int, folder: str, payload: bytes) -> None:
    """The steps of SHARES on the rank's parts; then the first one evaluates, while the other is done."""
    quantizer: Quantizer = pickle.loads(payload)  # noqa: S301 - from the process that started this one
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(seconds=WAIT / 2))
    found = []
    for step, shares in enumerate(SHARES):
        start = sum(shares[:rank])
        found.append(_step(quantizer, step, (start, start + shares[rank]), seed=rank))
    if rank == 0:
        z = BATCH.features(quantizer.dim)
        quantizer.decode(quantizer.encode(z))
        quantizer.eval()(z)
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


def _on_two_ranks(payload: bytes) -> list[list[dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as folder:
        ended = _exit_codes([(rank, folder, payload) for rank in range(2)])
        said = [path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*.txt"))]
        waited = f"one still waited for the other after {WAIT:.0f} s"
        require(ended == [0, 0], f"two processes ended with {ended}: {said or waited}")
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _exit_codes(arguments: list[tuple[int, str, bytes]]) -> list[int | None]:
    """Run one process a tuple of arguments until all are done, one fails, or WAIT is over; None where one was still at work."""
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_rank, args=given, daemon=True) for given in arguments]
    deadline = time.monotonic() + WAIT
    try:
        for process in running:
            process.start()
        while any(process.is_alive() for process in running) and time.monotonic() < deadline:
            if any(process.exitcode not in (None, 0) for process in running):
                break
            time.sleep(0.05)
        return [process.exitcode for process in running]
    finally:
        for process in running:
            process.kill()
            process.join()
