"""What `contract_scoreboard.py` compares: the examples, the pairs of quantizers, and what is asked of which.

One cause is to be one failure: where a law would only find again what another is there for, theirs is spared the example.
dvgen's meet every law in all of them.
"""

from typing import Any

import torch
from attrs import field, frozen
from vector_quantize_adapter import CODES, DIM, Theirs

from dvgen.contracts.quantizer_subject import Example
from dvgen.experiment import Choice
from dvgen.interfaces.quantizer import Traits

EXAMPLES = (
    Example(),
    Example(train=False),
    Example(mask="some", train=False),
    Example(mask="some", junk=3),
    Example(mask="some", scale=1e-5, updates=2),
    Example(scale=1e-5, grid=(5,)),
    Example(offset=300.0, grid=(2, 2, 2)),
    Example(offset=1e4, mask="some", train=False, junk=2),
    Example(dtype=torch.bfloat16, grid=(4,)),
    Example(scale=1e6, dtype=torch.float64, updates=0, train=False),
)
"""Modes, masks, scales, offsets, dtypes, grids. Batches of which nothing is valid are P11's to find."""

JUNK = {"P31 junk_under_the_mask"}
"""Laws that find what junk under the mask does, once. Elsewhere features like the others lie under the mask of theirs."""

DTYPES = {"P1", "P28"}
"""Laws that find what features of another dtype do, once. Elsewhere those of theirs are float32."""

GRADIENTS = {"P12", "P12-", "P14", "P15", "P16", "P17"}
"""Laws asked of theirs in training alone: that there is no gradient in evaluation is P13's to find, once."""

UNMASKED = {"P4", "P17"}
"""Laws asked of theirs without a mask: that -1 decodes to the last code is P7's to find, once."""

NOT_DESIGN = {"P4", "P10", "P11", "P15", "P19", "P21", "P22", "P23", "P25", "P26", "P31", "P39"}
"""Decoded codes that are not the output, statistics lost or counted twice, a codebook destroyed: no matter of taste."""

NO_COUNTERPART = {
    "P18": "their losses are zero in evaluation, where derivatives are taken (SimVQ: one number for a sum of two)",
    "P33": "no counts and no perplexity are returned: the adapter counts them",
    "P38 bad_values_compiled": "the flag stats['finite'] is dvgen's",
    "P38 update_does_not_wait": "the update is inside forward",
    "P39 ranks_update_alike": "statistics are summed by collectives inside forward: --slow runs two processes",
}
"""Laws, or single checks of them, that cannot be asked of the library."""

NOTES = {
    "P4": "manual, vq and simvq are off by the rounding of z + (c - z) alone; the others decode with a codebook that has moved",
    "P22": "few digits after three updates; but the average of a code without use decays, and smoothing takes the code to zero",
    "P28": "of fsq and lfq only constants are narrowed. Autocast is that of the CPU: theirs switches off that of CUDA alone",
    "P40": "a table of all codes a position does not show with four codes: see quantizer_speed.py",
}
"""How to read a row."""

NO_CODE = {"P7": "no code stands for a masked position"}
ONE_SUM = {"P14": "one number is returned for the sum of two losses"}
NO_LOSS = {"P14": "there is no loss"}
NO_REVIVAL = {"P23": "revival is off unless threshold_ema_dead_code is set: column ema"}
SAMPLED = {
    "P26": "codes are sampled in training, and nothing moves in evaluation",
    "P3-": "in evaluation its codes are the nearest, which is no fault",
    "P6-": "as P3-",
}


@frozen(kw_only=True)
class Column:
    """A pair: what is compared, theirs, ours, what cannot be asked of theirs beside NO_COUNTERPART, and the one law asked."""

    name: str
    theirs: Theirs
    ours: Choice
    without: dict[str, str] = field(factory=dict)
    only: str | None = None


def vq(**options: Any) -> Theirs:
    """Their VectorQuantize, started by k-means, its commitment weighted as in its README."""
    known = {name: options.pop(name) for name in ("traits", "updates", "manual", "deterministic") if name in options}
    sizes = {"dim": DIM, "codebook_size": CODES}
    return Theirs(name="VectorQuantize", arguments=sizes | options, weight="commitment_weight", commitment=1.0, **known)


def use(name: str, **options: Any) -> Choice:
    """A quantizer of dvgen."""
    return Choice(use=name, fields=options)


SIZE = {"num_codes": CODES, "dim": DIM}
PLAIN = {"kmeans_init": True, "rotation_trick": False}
SOFT = Traits(estimator="softmax", table=True)
SMOOTH = Traits(estimator="smooth", idempotent=True, table=True)
NO_TABLE = Traits(estimator="straight-through", nearest=True, idempotent=True)
RESIDUAL = Traits(estimator="straight-through", composition="residual")
ROTATION = Traits(estimator="rotation", nearest=True, idempotent=True, table=True)

COLUMNS = (
    Column(name="ema", theirs=vq(**PLAIN, threshold_ema_dead_code=2, updates=True), ours=use("ema", **SIZE)),
    Column(name="manual", theirs=vq(**PLAIN, manual_ema_update=True, updates=True, manual=True),
           ours=use("ema", **SIZE), without=NO_REVIVAL),
    Column(name="diversity", theirs=vq(**PLAIN, codebook_diversity_loss_weight=1.0, codebook_diversity_temperature=1.0,
                                       updates=True), ours=use("ema", **SIZE), only="P15"),
    Column(name="rotation", theirs=vq(kmeans_init=True, updates=True, traits=ROTATION),
           ours=use("ema", **SIZE, estimator="rotation"), without=NO_REVIVAL),
    Column(name="vq", theirs=vq(**PLAIN, learnable_codebook=True, ema_update=False), ours=use("vq", **SIZE)),
    Column(name="cosine", theirs=vq(**PLAIN, use_cosine_sim=True, updates=True, traits=SMOOTH), ours=use("cosine", **SIZE),
           without=NO_REVIVAL),
    Column(name="gumbel", theirs=vq(stochastic_sample_codes=True, straight_through=True, rotation_trick=False, updates=True,
                                    traits=SOFT, deterministic=False),
           ours=use("gumbel", **SIZE), without=NO_REVIVAL | SAMPLED),
    Column(name="residual", theirs=Theirs(
        name="ResidualVQ", arguments=PLAIN | {"dim": DIM, "codebook_size": CODES, "num_quantizers": 2}, levels=(CODES, CODES),
        weight="commitment_weight", commitment=1.0, traits=RESIDUAL, updates=True),
           ours=use("residual", levels=2, inner={"use": "ema"} | SIZE)),
    Column(name="simvq", theirs=Theirs(
        name="SimVQ", arguments={"dim": DIM, "codebook_size": CODES, "rotation_trick": False}, masks=False,
        traits=NO_TABLE), ours=use("simvq", **SIZE), without=ONE_SUM | NO_CODE),
    Column(name="fsq", theirs=Theirs(
        name="FSQ", arguments={"levels": [4, 3]}, dim=2, levels=(12,), masks=False, traits=Traits(estimator="smooth")),
           ours=use("fsq", levels_per_channel=[4, 3]), without=NO_LOSS | NO_CODE),
    Column(name="lfq", theirs=Theirs(
        name="LFQ", arguments={"dim": 2, "codebook_size": 4}, dim=2, levels=(4,), weight="commitment_loss_weight",
        commitment=0.25, traits=NO_TABLE), ours=use("lfq", bits=2), without=NO_CODE),
)  # fmt: skip
