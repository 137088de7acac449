"""The contract of a quantizer, run over those of vector-quantize-pytorch and over dvgen's: one table.

    pip install -e '.[bench]'
    python benchmarks/contract_scoreboard.py [--slow] [--only ema,fsq] [--json FILE]

A row is a law of `dvgen.contracts`, a column a quantizer of theirs and the one of dvgen's that does the same, both of a tiny
config. Both meet the same ten examples, theirs without what another law finds already (`contract_columns.py`). Below the
table stands what was found, a line a failure.

    ok      kept in every example that applies
    FAILS   not kept in at least one
    design  not kept as used, because forward moves their state, and kept when it does not (`freeze_codebook=True`). Not for
            laws whose breach reaches a user all the same: those of NOT_DESIGN
    -       does not apply: by what the quantizer is, or because the library has no counterpart (NO_COUNTERPART)
"""

import argparse
import json
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import contract_columns
import torch
from attrs import asdict, evolve, fields, frozen
from contract_columns import COLUMNS, EXAMPLES, NO_COUNTERPART, NOT_DESIGN, NOTES, Column
from loguru import logger
from torch import Tensor
from vector_quantize_adapter import NotOfferedError, adapted

from dvgen.assembly import build
from dvgen.contracts import quantizer_compiled
from dvgen.contracts.law import Law, require_close
from dvgen.contracts.quantizer import LAWS
from dvgen.contracts.quantizer_subject import Example, Subject, run
from dvgen.discovery import discover
from dvgen.interfaces.quantizer import Quantizer
from dvgen.training.folder import environment

OTHER = "vector-quantize-pytorch"
WORDS = ("ok", "FAILS", "design", "-")

SECONDS = 60
"""After which a law is given up; `--slow` allows five times as many."""


@frozen
class Verdict:
    """A cell: one of the four words, and what was found or why not."""

    word: str
    found: str = ""


def label(law: Law) -> str:
    """As `broken_laws` names it."""
    return f"{law.name} {law.check.__name__}"


class Clean(Example):
    """Under the mask lie features like the others."""

    def covered(self, z: Tensor) -> Tensor:
        """z as it is."""
        return z


def asked_of(law: Law, theirs: bool) -> Iterator[Example]:
    """The situations of a law."""
    for example in EXAMPLES[:1] if law.once else EXAMPLES:
        yield from spared(law, example) if theirs else (example,)


def spared(law: Law, example: Example) -> Iterator[Example]:
    """An example without what another law finds, or none."""
    if law.name in contract_columns.GRADIENTS and not example.train:
        return
    if law.name not in contract_columns.DTYPES:
        example = evolve(example, dtype=torch.float32)
    if law.name in contract_columns.UNMASKED:
        example = evolve(example, mask="none")
    yield example if label(law) in contract_columns.JUNK else Clean(**asdict(example))


def verdict(law: Law, make: Callable[[], Quantizer], seconds: int, theirs: bool = False) -> Verdict:
    """Whether a law is kept. What it raises is found; nothing ends the table."""
    subject, asked, reason = Subject(make), False, ""
    if not law.applies(subject.fresh()):
        return Verdict("-")
    for example in asked_of(law, theirs):
        try:
            with at_most(seconds):
                law.check(subject, example)
            asked = True
        except NotOfferedError as error:
            reason = str(error)
        except Exception as error:
            text = " ".join(str(error).split()).replace(f"{Path(__file__).parent}/", "")
            return Verdict("FAILS", f"{type(error).__name__}: {text[:180]} [{told(example)}]")
    return Verdict("ok") if asked else Verdict("-", reason)


def judged(law: Law, column: Column, seconds: int) -> Verdict:
    """The verdict on theirs."""
    reasons = NO_COUNTERPART | column.without
    why = reasons.get(law.name) or reasons.get(label(law))
    if why or column.only not in (None, law.name):
        return Verdict("-", why or f"asked for {column.only} alone")
    if law.name == "P15" and column.theirs.updates and not column.theirs.manual:
        law = MOVING
    unmasked = tuple(Example(train=train) for train in (True, False) * 2)
    with patch.object(quantizer_compiled, "EXAMPLES", unmasked):  # its own ones have junk under a mask, which P31 finds
        result = verdict(law, lambda: adapted(column.theirs), seconds, True)
    if result.word != "FAILS" or not column.theirs.updates or law.name in NOT_DESIGN:
        return result
    held = verdict(law, lambda: adapted(evolve(column.theirs, held=True)), seconds, True)
    return Verdict("design", result.found) if held.word == "ok" else held


def gradients_of_the_forward_pass(subject: Subject, example: Example) -> None:
    """P15 where forward itself moves the codebook: gradients of losses are those of a forward pass that does not."""
    moving: Any = subject.prepared(evolve(example, train=True))
    still = adapted(evolve(moving.config, held=True))
    still.load_state_dict(moving.state_dict())
    z, mask = example.features(moving.dim).float(), example.valid()
    found, expected = (_gradient(one, z, mask) for one in (moving, still.train()))
    require_close(found, expected, "gradient of the losses while forward moves the codebook", relative=1e-4)


def _gradient(quantizer: Quantizer, z: Tensor, mask: Tensor | None) -> Tensor:
    leaf = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(sum(run(quantizer, leaf, mask).losses.values()), leaf)
    return gradient


MOVING = Law("P15", "", gradients_of_the_forward_pass, lambda _: True, False, False)
"""What P15 asks of a quantizer without an update of its own."""


def told(example: Example) -> str:
    """What is not as in a plain example."""
    names = (one.name for one in fields(Example))
    return ", ".join(f"{n}={getattr(example, n)}" for n in names if getattr(example, n) != getattr(Example(), n)) or "plain"


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError inside when it takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"still at work after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def scoreboard(columns: list[Column], slow: bool) -> dict[str, dict[str, tuple[Verdict, Verdict]]]:
    """By law and column: theirs, ours."""
    registry = discover().registry
    found: dict[str, dict[str, tuple[Verdict, Verdict]]] = {}
    for law in sorted((one for one in LAWS if slow or not one.slow), key=lambda one: int(one.name.strip("P-"))):
        seconds = SECONDS * 5 if law.slow else SECONDS
        found[label(law)] = {
            column.name: (
                judged(law, column, seconds),
                verdict(law, lambda c=column: build(registry, "quantizer", c.ours), seconds),  # type: ignore[misc]
            )
            for column in columns
        }
    return found


def table(found: dict[str, dict[str, tuple[Verdict, Verdict]]]) -> Iterator[str]:
    """A line a law, theirs/ours a column, the sums, and a line a failure."""
    names = list(next(iter(found.values())))
    rules = {label(law): law.rule for law in LAWS}
    yield f"{'theirs/ours':72s}" + "".join(f"{name:>11s}" for name in names)
    for law, row in found.items():
        text = f"{law.split()[0]:5s}{rules[law]}"
        cells = [f"{theirs.word}/{ours.word}" for theirs, ours in row.values()]
        yield f"{text if len(text) < 71 else text[:68] + '...':72s}" + "".join(f"{cell:>11s}" for cell in cells)
    for word in WORDS:
        sums = [[sum(row[name][side].word == word for row in found.values()) for side in (0, 1)] for name in names]
        cells = [f"{theirs}/{ours}" for theirs, ours in sums]
        both = f"{sum(one for one, _ in sums)}/{sum(two for _, two in sums)}"
        yield f"{f'{word}: {both} in all':72s}" + "".join(f"{cell:>11s}" for cell in cells)
    for side, whose in enumerate(("theirs", "ours")):
        for word in ("FAILS", "design"):
            yield f"\n{word}, {whose}"
            for law, row in found.items():
                yield from (f"  {law}, {name}: {row[name][side].found}" for name in names if row[name][side].word == word)


def legend(columns: list[Column]) -> Iterator[str]:
    """What each column is, and what could not be asked."""
    for column in columns:
        given = column.theirs.arguments | ({column.theirs.weight: column.theirs.commitment} if column.theirs.weight else {})
        options = ", ".join(f"{name}={value}" for name, value in given.items())
        yield f"{column.name}: {column.theirs.name}({options})"
        yield f"{'':10s}{column.ours.use} {dict(column.ours.fields)}"
        yield from (f"{'':10s}{law} -: {why}" for law, why in column.without.items())
    yield from (f"{law} -: {why}" for law, why in NO_COUNTERPART.items())
    yield from (f"{law}: {note}" for law, note in NOTES.items())


def versions() -> dict[str, Any]:
    """Theirs, and what results depend on."""
    return environment() | {OTHER: version(OTHER)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slow", action="store_true", help="also compile to machine code, and start processes")
    parser.add_argument("--only", help="names of columns, separated by commas")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logger.disable("vector_quantize_pytorch")
    torch.set_num_threads(1)
    columns = [column for column in COLUMNS if not options.only or column.name in options.only.split(",")]
    began = time.perf_counter()
    found = scoreboard(columns, options.slow)
    machine = versions()
    print(f"{OTHER} {machine[OTHER]}, dvgen {machine['versions']['dvgen']}, torch {torch.__version__}, ", end="")
    print(f"python {machine['python']}; {len(EXAMPLES)} examples, {time.perf_counter() - began:.0f} s\n")
    print("\n".join((*legend(columns), "", *table(found))))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        cells = {law: {name: [asdict(one) for one in pair] for name, pair in row.items()} for law, row in found.items()}
        options.json.write_text(json.dumps({"environment": machine, "legend": list(legend(columns)), "laws": cells}, indent=1))


if __name__ == "__main__":
    main()
