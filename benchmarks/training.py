"""Training steps: dvgen's, the same network in the form that is usually written, and peers', in one process.

    python benchmarks/training.py [--peer rosinality=DIR] [--peer taming=DIR] [--only snail,gpt] [--compile] [--json FILE]

snail   pixelsnail on 16x16 and 32x32 codes, against the same weights in the form of `plain_pixelsnail.py`, and rosinality's
gpt     a transformer of 8 layers x 256 on 16x16 codes, against taming-transformers' minGPT
vqvae2  stage one of VQ-VAE-2 at 64 and 128 pixels, against rosinality's
vqgan   stage one of VQGAN at 64 pixels, alone and with its discriminator, against taming-transformers'; no LPIPS on either side

A step is forward, backward and optimizer on one batch that stays, in an order that changes. dvgen's is the step of its
training loop: the batch is taken from its source, gradients are clipped, what is not finite is looked for, and the optimizer is
AdamW, fused. Theirs is what their scripts do, with the optimizer they have there (Adam; AdamW of minGPT) in torch's default
form; the batch is handed to them. In bfloat16 all of them are under the same autocast.

A column that begins with "speed /" says how many times as fast as that one a row is. Those are the sides in float32, as the
peers are written: to see what the code alone does in bfloat16, compare two rows of bfloat16 by their ms. "of limit": operations
a second over what this machine's matrix product reaches in that precision (`machine_limits.py`). Medians of steps that take
turns. The compiler's time is a column of its own (with the first step in it) and in no median.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from typing import Any

import peers
import torch
import torch.nn.functional as F
from machine_limits import Limits, limits
from measured import Report, Row, Timing, interleaved, option_parser, seconds
from peers import Peers
from plain_pixelsnail import PlainPixelSNAIL
from torch import Tensor
from training_sides import NUM_CODES, RATE, Side, in_turn_sides, make_prior, operations, parameters, prior_sides, their_sides
from training_stages import stage_one

from dvgen.interfaces.context import Context
from dvgen.training.compilation import Compilation

SNAIL = ((16, 32), (32, 8))
"""Side of the grid, and batch."""
GPT = {"layers": 8, "dim": 256, "heads": 8}
VQGAN_CHANNELS, VQGAN_CODES, VQGAN_WIDTH = 64, 1024, 128


class Bench:
    """Measures cases, and gathers their rows."""

    def __init__(self, report: Report, others: Peers, limit: Limits) -> None:
        self.report, self.others, self.limit = report, others, limit
        self.compiled: bool = report.options.compile

    def rows(self, case: str, sides: Mapping[str, Side]) -> list[Row]:
        """A row a side; ratios against every side of another party in float32."""
        compilation = Compilation([module for side in sides.values() for module in side.compiled])
        with compilation.active() if compilation.modules else nullcontext():
            compiling = {name: seconds(side.step) for name, side in sides.items() if side.compiled}
            found = interleaved({name: side.step for name, side in sides.items()}, self.report.options.rounds)
        bases = [name for name in sides if name.endswith("float32") and not name.startswith("dvgen")]
        rows = [self._row(case, name, side, found, bases) for name, side in sides.items()]
        return [row | ({"compiling, s": compiling.get(str(row["step"]))} if compiling else {}) for row in rows]

    def _row(self, case: str, name: str, side: Side, found: Mapping[str, Timing], bases: list[str]) -> Row:
        own = found[name]
        row: Row = {"case": case, "step": name, "parameters": side.parameters, "ms": own.median * 1e3}
        row |= {f"speed / {base}": found[base].median / own.median for base in bases}
        row["spread"] = f"{own.spread:.0%}"
        if not side.compiled:
            rate = operations(side.step) / own.median
            row["GFLOP/s"] = rate / 1e9
            row["of limit"] = f"{rate / (self.limit.bfloat16 if 'bfloat16' in name else self.limit.float32):.0%}"
        return row


def snail(bench: Bench) -> None:
    """PixelSNAIL."""
    rows: list[Row] = []
    for side, batch in SNAIL:
        codes = torch.randint(NUM_CODES, (batch, side, side))
        prior: Any = make_prior("pixelsnail", side, dropout=0.0)
        plain = PlainPixelSNAIL(prior)
        _check_equal(float(prior.loss((codes,), Context(batch)).detach()), float(plain.loss(codes).detach()))
        sides = prior_sides(lambda side=side: make_prior("pixelsnail", side, dropout=0.0), codes, compiled=bench.compiled)
        sides |= their_sides("plain form", lambda plain=plain, codes=codes: plain.loss(codes), plain)
        if "rosinality" in bench.others:
            cls = bench.others.module("rosinality", "pixelsnail").PixelSNAIL
            network = cls([side, side], NUM_CODES, 64, 5, 2, 2, 64, dropout=0.0).train()
            loss = _cross_entropy(network, codes)
            sides |= their_sides("rosinality", loss, network)
        rows += bench.rows(f"{side}x{side}, batch {batch}", sides)
    notes = [
        "plain form: the same network, and an equal loss at the first step; more parameters, for its first layer is one-hot"
    ]
    bench.report.table("pixelsnail, 64 channels, 2 blocks x 2, no dropout", rows, *notes, *bench.others.missing("rosinality"))


def _cross_entropy(network: Any, codes: Tensor) -> Callable[[], Tensor]:
    return lambda: F.cross_entropy(network(codes)[0], codes)


def _check_equal(ours: float, plain: float) -> None:
    if abs(ours - plain) > 1e-5 * abs(ours):
        raise SystemExit(f"the plain form is another network: its loss is {plain}, not {ours}")


def gpt(bench: Bench) -> None:
    """A transformer."""
    side, batch = 16, 32
    codes = torch.randint(NUM_CODES, (batch, side, side))
    sides = prior_sides(lambda: make_prior("gpt", side, **GPT), codes, compiled=bench.compiled)
    if "taming" in bench.others:
        module, flat = bench.others.module("taming", "taming.modules.transformer.mingpt"), codes.flatten(1)
        network = module.GPT(NUM_CODES, side**2, n_layer=GPT["layers"], n_head=GPT["heads"], n_embd=GPT["dim"]).train()
        sides |= their_sides("taming", lambda: network(flat, targets=flat)[1], network, torch.optim.AdamW)
    rows = bench.rows(f"{side}x{side}, batch {batch}", sides)
    bench.report.table("gpt, 8 layers x 256, 8 heads, no dropout", rows, *bench.others.missing("taming"))


def vqvae2(bench: Bench) -> None:
    """Stage one of VQ-VAE-2, with moving averages of the codebooks."""
    rows: list[Row] = []
    batch, table = 16, {"encoder": {"use": "vqvae2"}, "decoder": {"use": "vqvae2"}, "quantizer": {"use": "ema"}}
    for pixels in (64, 128):
        signals = torch.randn(batch, 3, pixels, pixels)
        sides = stage_one(table, signals, compiled=bench.compiled)
        if "rosinality" in bench.others:
            network = bench.others.module("rosinality", "vqvae").VQVAE().train()
            sides |= their_sides("rosinality", _latent_loss(network, signals), network)
        rows += bench.rows(f"{pixels} pixels, batch {batch}", sides)
    bench.report.table("vqvae2, stage one", rows, *bench.others.missing("rosinality"))


def _latent_loss(network: Any, signals: Tensor) -> Callable[[], Tensor]:
    def loss() -> Tensor:
        made, latent = network(signals)
        return F.mse_loss(made, signals) + 0.25 * latent.mean()

    return loss


def vqgan(bench: Bench) -> None:
    """Stage one of VQGAN, without and with the game."""
    pixels, batch = 64, 8
    signals = torch.rand(batch, 3, pixels, pixels) * 2 - 1
    network: Row = {"use": "vqgan", "channels": VQGAN_CHANNELS, "multipliers": [1, 2, 2], "blocks": 2, "attention": [4]}
    network |= {"z_channels": VQGAN_WIDTH}
    quantizer = {"use": "vq", "num_codes": VQGAN_CODES, "dim": VQGAN_WIDTH}
    table: Row = {"encoder": network, "decoder": network, "quantizer": quantizer, "loss": {"use": "l1"}}
    rows: list[Row] = []
    for case, game in (("autoencoder", {}), ("with discriminator", {"adversarial": {"start": 0, "ramp": 0, "weight": 0.8}})):
        sides = stage_one(table | game, signals, compiled=bench.compiled)
        if "taming" in bench.others:
            sides |= _taming_vqgan(bench.others, signals, playing=bool(game))
        rows += bench.rows(f"{case}, {pixels} pixels, batch {batch}", sides)
    note = "with discriminator: taming's script makes the images once for each of the two players, dvgen's step makes them once"
    bench.report.table("vqgan, stage one, 64 channels x 1, 2, 2", rows, note, *bench.others.missing("taming"))


def _taming_vqgan(others: Peers, signals: Tensor, *, playing: bool) -> dict[str, Side]:
    """Its model and its training step; without the game the loss's reconstruction and codebook terms alone."""
    size = {"resolution": signals.shape[-1], "in_channels": 3, "out_ch": 3, "ch": VQGAN_CHANNELS, "ch_mult": [1, 2, 2]}
    more = {"double_z": False, "z_channels": VQGAN_WIDTH, "num_res_blocks": 2, "attn_resolutions": [16], "dropout": 0.0}
    losses = others.module("taming", "taming.modules.losses.vqperceptual")
    cls = others.module("taming", "taming.models.vqgan").VQModel
    with redirect_stdout(StringIO()):  # both tell about themselves
        loss = losses.VQLPIPSWithDiscriminator(disc_start=0, disc_weight=0.8, perceptual_weight=0.0)
        model = cls(size | more, loss, VQGAN_CODES, VQGAN_WIDTH).train()
    model.learning_rate = RATE
    optimizers, _ = model.configure_optimizers()
    batch = {"image": signals.movedim(1, -1)}
    if playing:
        players = [(lambda i=i: model.training_step(batch, 0, i), optimizer) for i, optimizer in enumerate(optimizers)]
        return in_turn_sides("taming", players, parameters(model))

    def reconstruction() -> Tensor:
        made, codebook = model(signals)
        return (signals - made).abs().mean() + codebook.mean()

    return in_turn_sides("taming", [(reconstruction, optimizers[0])], parameters(model) - parameters(loss))


PARTS = {"snail": snail, "gpt": gpt, "vqvae2": vqvae2, "vqgan": vqgan}


def main() -> None:
    """Print the tables."""
    parser = option_parser(__doc__, rounds=5, parts=tuple(PARTS))
    peers.add_option(parser)
    parser.add_argument("--compile", action="store_true", help="dvgen's steps once more, compiled")
    options = parser.parse_args()
    others = peers.opened(options.peer)
    report = Report(options)
    bench = Bench(report, others, limits())
    for name in options.only:
        PARTS[name](bench)
    report.write(peers=others.versions(), limits=bench.limit._asdict())


if __name__ == "__main__":
    main()
