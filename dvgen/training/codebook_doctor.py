"""The codebook doctor: how every codebook is used and how far its codes are from the features, while training goes on.

It reads what quantizers tell of every batch (`stats`) and changes nothing: training is the same, bit for bit, without it.
Statistics are added up on the device; at a log step they are summed over ranks in one all-reduce, and the host looks at them.
It is no part of a checkpoint: a resumed run starts new windows, and may tell again what it told before.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import final

import torch
from attrs import define, field
from torch import Tensor

from dvgen.interfaces.quantizer import MAX_COUNTED, Quantizer
from dvgen.tokenizer import Tokenizer
from dvgen.training.codebook_advice import GROWTH, WINDOW, Features, Use, level_findings, map_findings
from dvgen.training.findings import Finding, Record

GRACE = 50
"""Steps before anything is judged: an encoder that has just begun to learn moves away from the codebook it was given."""

PATIENCE = 3
"""Windows without use after which a code is dead: one a tenth as frequent as the average occurs in 30 k positions with
probability 0.95."""

SCALARS = ("quantization_error", "feature_variance", "feature_spread", "feature_norm", "vector_norm", "certified")


@define
class Windows:
    """The counts of one level: an open window, added to until it holds WINDOW positions a code, and what the last ones held.

    last: use in the last full window. empty: for each code (k,), how many windows in a row it did not occur in.
    """

    counts: Tensor
    empty: Tensor
    last: Use | None = None
    sizes: deque[int] = field(factory=lambda: deque(maxlen=PATIENCE))

    @classmethod
    def of(cls, num_codes: int) -> "Windows":
        """No counts yet."""
        return cls(torch.zeros(num_codes, dtype=torch.float64), torch.zeros(num_codes, dtype=torch.int64))

    def add(self, counts: Tensor) -> bool:
        """Add counts (k,) of all ranks; True when that filled the window, which makes a new `last`."""
        self.counts = self.counts + counts
        positions = int(self.counts.sum())
        if positions < WINDOW * len(self.counts):
            return False
        self.sizes.append(positions)
        self.empty = torch.where(self.counts > 0, 0, self.empty + 1)
        self.last = self._use(unused=int((self.empty >= len(self.sizes)).sum()), since=sum(self.sizes))
        self.counts = torch.zeros_like(self.counts)
        return True

    def latest(self) -> Use | None:
        """Use in the last full window; before there is one, in the open one; None when nothing was counted."""
        positions = int(self.counts.sum())
        if self.last is not None or not positions:
            return self.last
        return self._use(unused=int((self.counts == 0).sum()), since=positions)

    def _use(self, *, unused: int, since: int) -> Use:
        positions = int(self.counts.sum())
        share = self.counts[self.counts > 0] / positions
        perplexity = math.exp(max(0.0, -float((share * share.log()).sum())))
        k, used = len(self.counts), len(share)
        return Use(num_codes=k, positions=positions, used=used, perplexity=perplexity, unused=unused, since=since)


@define
class Patient:
    """One map's quantizer: prefix of its stats, name for people, and a window for each level that is counted one by one.

    scalars: the last means over a log interval, without prefix. lengths: of the features, at the last log steps. remedy: of
    REMEDIES, as its stats tell how it comes to its codes.
    """

    prefix: str
    name: str
    quantizer: Quantizer
    levels: Mapping[int, tuple[str, Windows]]
    scalars: dict[str, float] = field(factory=dict)
    lengths: deque[float] = field(factory=lambda: deque(maxlen=GROWTH + 1))
    remedy: str = "fixed"

    def owns(self, stats: Mapping[str, Tensor]) -> set[str]:
        """The stats that the doctor adds up."""
        kinds = {name.rpartition(".")[2] for name in stats if name.startswith(self.prefix)}
        if not self.quantizer.deterministic:
            self.remedy = "sampled"
        elif kinds & {"entropy_batch", "certified"}:
            self.remedy = "entropy" if "entropy_batch" in kinds else "searched"
        wanted = {f"{self.prefix}{name}" for name in (*SCALARS, *(f"counts_{i}" for i in self.levels))}
        return wanted & stats.keys()

    def take(self, found: Mapping[str, Tensor]) -> list[int]:
        """Take in means and counts since the last log; returns the levels whose window they filled.

        Norms are roots of mean squares. commitment_ratio: what the codes leave unexplained of the features' variance.
        """
        own = {name: float(found[self.prefix + name]) for name in SCALARS if self.prefix + name in found}
        if own:
            self.scalars = {name: math.sqrt(value) if name.endswith("_norm") else value for name, value in own.items()}
            self.lengths.append(self.scalars.get("feature_norm", 0.0))
        if own.get("feature_variance", 0.0) > 0 and "quantization_error" in own:
            self.scalars["commitment_ratio"] = own["quantization_error"] / own["feature_variance"]
        counts = {i: found.get(f"{self.prefix}counts_{i}") for i in self.levels}
        return [i for i, counted in counts.items() if counted is not None and self.levels[i][1].add(counted)]

    def values(self, filled: Iterable[int]) -> dict[str, float]:
        """What to log: the scalars, and use of the levels whose window has just been filled."""
        values = dict(self.scalars)
        for i in filled:
            if (use := self.levels[i][1].last) is not None:
                values |= {
                    f"usage_{i}": use.used / use.num_codes,
                    f"perplexity_{i}": use.perplexity,
                    f"dead_codes_{i}": use.unused,
                }
        return {self.prefix + name: value for name, value in values.items()}

    def findings(self, judged: Iterable[int]) -> list[Finding]:
        """All findings of the map and of these levels; none without the scalars that explain them."""
        if not {"feature_norm", "vector_norm", "feature_spread"} <= self.scalars.keys():
            return []
        uses = {i: use for i, (_, windows) in self.levels.items() if (use := windows.latest()) is not None}
        features = self._features()
        levels = [f for i in judged if i in uses for f in level_findings(self.levels[i][0], uses[i], features)]
        return levels + map_findings(self.name, features, collapsed=any(use.collapse >= 1 for use in uses.values()))

    def _features(self) -> Features:
        own = self.scalars
        return Features(
            ratio=own.get("commitment_ratio", 0.0),
            spread=own["feature_spread"],
            vector_norm=own["vector_norm"],
            lengths=tuple(self.lengths),
            certified=own.get("certified"),
            deterministic=self.quantizer.deterministic,
            table=self.quantizer.traits.table,
            remedy=self.remedy,
        )

    def verdict(self) -> list[str]:
        """The last word on every level."""
        uses = [(name, windows.latest()) for name, windows in self.levels.values()]
        ratio = self.scalars.get("commitment_ratio")
        explained = "" if ratio is None else f", commitment ratio {ratio:.2f}"
        return [f"{name}: {use}{explained}" for name, use in uses if use is not None]


@final
class CodebookDoctor:
    """Watches every quantizer of a tokenizer: `observe` every batch, `report` at log steps and at the end."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.patients = _patients(tokenizer)
        self.record = Record()
        self._sums: dict[str, Tensor] = {}
        self._batches = 0

    @torch.no_grad()
    def observe(self, stats: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Add up a batch's stats, waiting for nothing; returns the scalars it does not speak for, to be logged as they are."""
        own = {name for patient in self.patients for name in patient.owns(stats)}
        for name in own:
            value = stats[name].square() if name.endswith("_norm") else stats[name]
            self._sums[name] = self._sums[name] + value if name in self._sums else value.detach().clone()
        self._batches += 1
        replaced = {name.replace("counts_", "perplexity_") for name in own}  # by the window's: a small batch keeps it low
        spoken_for = own | replaced | set(finiteness(stats))
        return {name: value for name, value in stats.items() if value.ndim == 0 and name not in spoken_for}

    def report(self, step: int, total: Callable[[Tensor], Tensor], *, finished: bool) -> tuple[dict[str, float], list[str]]:
        """Scalars to log, and what to tell; `total` sums a tensor over ranks. On every rank, at the same steps.

        At the end, every level is judged, on what was counted so far, and what still holds is told again.
        """
        found = self._gather(total)
        values: dict[str, float] = {}
        findings: list[Finding] = []
        for patient in self.patients:
            filled = patient.take(found)
            values |= patient.values(filled)
            findings += patient.findings(patient.levels if finished else filled)
        if step < GRACE:
            return values, []
        if not finished:
            return values, self.record.judge(findings)
        verdicts = [line for patient in self.patients for line in patient.verdict()]
        return values, [*verdicts, *(str(finding) for finding in self.record.still(findings))]

    def _gather(self, total: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Sums of counts and means of scalars since the last time, over all ranks, on the host."""
        names = sorted(self._sums)
        if not names:
            return {}
        pieces = [self._sums[name].float().flatten() for name in names]
        flat = total(torch.cat([*pieces, pieces[0].new_full((1,), self._batches)])).cpu().double()
        split = dict(zip(names, flat[:-1].split([len(piece) for piece in pieces]), strict=True))
        self._sums, self._batches = {}, 0
        return {name: values if "counts_" in name else values[0] / flat[-1] for name, values in split.items()}


def finiteness(stats: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The `finite` of every quantizer, also of those inside others."""
    return {name: value for name, value in stats.items() if name.rpartition(".")[2] == "finite"}


def _patients(tokenizer: Tokenizer) -> list[Patient]:
    """A patient for every map; levels of several are told apart by the tokenizer's names for them."""
    quantizers = [quantizer for quantizer in tokenizer.quantizers if isinstance(quantizer, Quantizer)]
    grids = tokenizer.encoder.grids(tokenizer.shape[1:])
    names = ["codebook"] if len(tokenizer.levels) == 1 else [f"codebook {level.name}" for level in tokenizer.levels]
    patients, first = [], 0
    for map_name, quantizer, grid in zip(tokenizer.map_names, quantizers, grids, strict=True):
        own = quantizer.levels(grid)
        counted = {
            i: (names[first + i], Windows.of(level.num_codes)) for i, level in enumerate(own) if level.num_codes <= MAX_COUNTED
        }
        first += len(own)
        prefix, name = (f"{map_name}.", f"features of {map_name}") if map_name else ("", "features")
        patients.append(Patient(prefix, name, quantizer, counted))
    return patients
