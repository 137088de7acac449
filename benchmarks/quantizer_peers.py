"""Training steps of other libraries' quantizers, each on the features in the layout that it takes."""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from peers import Peers
from torch import Tensor

SIDE = 32
DECAY, COMMITMENT = 0.99, 0.25

Step = Callable[[], None]


class Size(NamedTuple):
    """Features, codes, and the width of both."""

    n: int
    k: int
    d: int


SIZES = (Size(8192, 1024, 64), Size(4096, 8192, 256), Size(16384, 16384, 8))


class Case(NamedTuple):
    """A quantizer of dvgen with fields of its own, and a class of a peer with arguments of its."""

    name: str
    size: Size
    peer: str
    cls: str
    fields: Mapping[str, Any] = {}
    arguments: Mapping[str, Any] = {}

    @property
    def label(self) -> str:
        """The name, and the estimator where it is not the usual one."""
        return f"{self.name} ({self.fields['estimator']})" if "estimator" in self.fields else self.name


def cases() -> list[Case]:
    """Every pair that is measured."""
    other = "vector-quantize-pytorch"
    plain = {"decay": DECAY, "rotation_trick": False}
    turned = plain | {"rotation_trick": True}
    learned = {"learnable_codebook": True, "ema_update": False, "rotation_trick": False}
    first = SIZES[0]
    return [
        *(Case("ema", size, other, "VectorQuantize", {}, plain) for size in SIZES),
        *(Case("ema", size, other, "VectorQuantize", {"estimator": "rotation"}, turned) for size in SIZES),
        Case("vq", first, other, "VectorQuantize", {}, learned),
        Case("cosine", first, other, "VectorQuantize", {}, plain | {"use_cosine_sim": True}),
        Case("simvq", first, other, "SimVQ", {}, {"rotation_trick": False}),
        Case("residual", first, other, "ResidualVQ", {"levels": 4, "inner": {"use": "ema"}}, plain | {"num_quantizers": 4}),
        Case("fsq", Size(8192, 1000, 4), other, "FSQ", {"levels_per_channel": [8, 5, 5, 5]}, {"levels": [8, 5, 5, 5]}),
        Case(
            "lfq",
            Size(8192, 2**14, 14),
            other,
            "LFQ",
            {"bits": 14},
            {"dim": 14, "codebook_size": 2**14, "commitment_loss_weight": COMMITMENT},
        ),
        *(Case("vq", size, "taming", "VectorQuantizer2") for size in SIZES),
        *(Case("ema", size, "rosinality", "Quantize") for size in SIZES),
        *(Case("ema", size, "pythae", "QuantizerEMA") for size in SIZES),
    ]


def peer_step(case: Case, rows: Tensor, peers: Peers) -> Step:
    """A training step of the peer's class on rows (n, d): forward, backward, and the codebook's update, but no optimizer."""
    features, forward, module = _MAKERS[case.peer](case, rows, peers)
    module.train()

    def step() -> None:
        vectors, losses = forward(features.clone().requires_grad_())
        torch.stack([vectors.square().sum(), *losses]).sum().backward()
        module.zero_grad()

    return step


Made = tuple[Tensor, Callable[[Tensor], tuple[Tensor, list[Tensor]]], torch.nn.Module]


def _vector_quantize(case: Case, rows: Tensor, _: Peers) -> Made:
    arguments = dict(case.arguments)
    if case.cls not in ("FSQ", "LFQ"):
        arguments |= {"dim": case.size.d, "codebook_size": case.size.k}
    module = getattr(import_module("vector_quantize_pytorch"), case.cls)(**arguments)

    def forward(features: Tensor) -> tuple[Tensor, list[Tensor]]:
        vectors, _, *rest = module(features)
        return vectors, [rest[0].sum()] if rest else []

    return rows.unsqueeze(0), forward, module


def _taming(case: Case, rows: Tensor, peers: Peers) -> Made:
    cls = getattr(peers.module("taming", "taming.modules.vqvae.quantize"), case.cls)
    module = cls(case.size.k, case.size.d, beta=COMMITMENT, legacy=False)
    return maps(rows), lambda features: _two(module(features)), module


def _rosinality(case: Case, rows: Tensor, peers: Peers) -> Made:
    module = getattr(peers.module("rosinality", "vqvae"), case.cls)(case.size.d, case.size.k, decay=DECAY)
    return rows.unflatten(0, (-1, SIDE, SIDE)), lambda features: _two(module(features)), module


def _pythae(case: Case, rows: Tensor, _: Peers) -> Made:
    config = SimpleNamespace(
        embedding_dim=case.size.d, num_embeddings=case.size.k, commitment_loss_factor=COMMITMENT, decay=DECAY
    )
    module = getattr(import_module("pythae.models.vq_vae.vq_vae_utils"), case.cls)(config)

    def forward(features: Tensor) -> tuple[Tensor, list[Tensor]]:
        out = module(features)
        return out.quantized_vector, [out.loss]

    return rows.unflatten(0, (-1, SIDE, SIDE)), forward, module


def _two(returned: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
    """The vectors and the loss, of what begins with these two."""
    return returned[0], [returned[1]]


def maps(rows: Tensor) -> Tensor:
    """Rows (n, d) as maps (b, d, 32, 32)."""
    return rows.unflatten(0, (-1, SIDE, SIDE)).movedim(-1, 1).contiguous()


_MAKERS: Mapping[str, Callable[[Case, Tensor, Peers], Made]] = {
    "vector-quantize-pytorch": _vector_quantize,
    "taming": _taming,
    "rosinality": _rosinality,
    "pythae": _pythae,
}
