"""Rule: every registered encoder, decoder, discriminator, loss and prior keeps every law of the contract of its kind.

A component that is installed is under contract without a word here. What its class cannot tell is declared: the config where
the tiny one needs something that is not there, files, and the shape of what a loss of a distribution reads.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dvgen.contracts.pytest_components import (
    adversarial_loss_contract,
    autoencoder_contract,
    discriminator_contract,
    loss_contract,
    prior_contract,
)
from dvgen.discovery import discover

REGISTRY = discover().registry

READ: dict[str, Callable[[tuple[int, ...]], tuple[int, ...]]] = {"logit-laplace": lambda shape: (2 * shape[0], *shape[1:])}
"""Losses that read the parameters of a distribution: their shape, from that of the signals."""

CONFIGS: dict[tuple[str, str], dict[str, Any]] = {("loss", "lpips"): {"net": "squeeze"}}
"""Configs other than `tiny()`, by kind and name: LPIPS's default network weighs half a gigabyte."""


@pytest.fixture(scope="class")
def random_lpips_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A file of random weights where LPIPS looks for the published one."""
    import torch
    from torchvision.models import squeezenet1_1

    from dvgen.blocks.lpips_network import TRUNKS

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    path = folder / "new"
    torch.save(squeezenet1_1(weights=None).state_dict(), path)
    name = f"squeeze-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"
    path.rename(folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVGEN_WEIGHTS", str(folder))
        patch.setitem(TRUNKS, "squeeze", TRUNKS["squeeze"]._replace(file=name))
        yield


NEEDS = {("loss", "lpips"): random_lpips_weights}
"""Fixtures without which a component cannot be made."""


def named(kind: str, name: str) -> type:
    """An empty class of tests."""
    cls = type(f"Test_{kind}_{name}".replace("-", "_"), (), {"__module__": __name__})
    if (kind, name) in NEEDS:
        cls = pytest.mark.usefixtures(NEEDS[kind, name].__name__)(cls)
    return cls


def config(kind: str, name: str) -> Any:
    """The declared config of a component; None where it is `tiny()`."""
    fields = CONFIGS.get((kind, name))
    return None if fields is None else REGISTRY.load(kind, name).Config(**fields)


def contract_of(kind: str, name: str) -> type:
    """The tests of one component; of a decoder with the encoder of its name."""
    cls = REGISTRY.load(kind, name)
    options: dict[str, Any] = {"config": config(kind, name)}
    if kind == "loss":
        return loss_contract(cls, read=READ.get(name), **options)(named(kind, name))
    contracts: dict[str, Callable[..., Any]] = {
        "discriminator": discriminator_contract,
        "adversarial-loss": adversarial_loss_contract,
        "prior": prior_contract,
    }
    return contracts[kind](cls, **options)(named(kind, name))


def pair_contract(name: str) -> type:
    """The tests of an encoder and the decoder of its name."""
    kinds = ("encoder", "decoder")
    configs: Any = tuple(config(kind, name) for kind in kinds)
    return autoencoder_contract(*(REGISTRY.load(kind, name) for kind in kinds), configs=configs)(named("autoencoder", name))


for _name in REGISTRY.names("encoder"):
    globals()[f"Test_autoencoder_{_name}"] = pair_contract(_name)
for _kind in ("discriminator", "loss", "adversarial-loss", "prior"):
    for _name in REGISTRY.names(_kind):
        globals()[f"Test_{_kind}_{_name}"] = contract_of(_kind, _name)


def test_encoders_and_decoders_come_in_pairs() -> None:
    """Each is under contract with the other of its name: a decoder without one is not tested at all."""
    assert REGISTRY.names("encoder") == REGISTRY.names("decoder")


def test_losses_of_distributions_are_declared() -> None:
    reading = {name for name in REGISTRY.names("loss") if REGISTRY.load("loss", name).reads != "signals"}
    assert reading <= set(READ), "declare in READ what shape of parameters these losses read"
