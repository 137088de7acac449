"""The tutorial of a prior is true: its files are the example's, and the prior trains, samples and remembers as it says."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from doc_pages import ROOT
from example_pages import files_of, run_python, shown_files
from tiny_experiment import budgets, experiment_file, invoke, private_imports
from torch import Tensor

from dvgen.contracts.pytest_components import prior_contract
from dvgen.discovery import discover
from dvgen.interfaces.codes import Level
from dvgen.interfaces.context import Context, ContextShape

sys.path.append(str(ROOT / "docs" / "example_plugins" / "dvgen-mingru"))

from dvgen_mingru.prior import Decoding, Memory, MingruPrior, Recurrence

PAGE = ROOT / "docs" / "tutorial_prior.md"
EXAMPLE = ROOT / "docs" / "example_plugins" / "dvgen-mingru"
MINGRU = {
    "prior": {"use": "mingru", "layers": 1, "dim": 8},
    "train": budgets(prior=2),
    "evaluate": {"samples": 4, "maps": 2},
}
dvgen = partial(invoke, plugin="dvgen_mingru")


@prior_contract(MingruPrior, examples=1)
class TestMingruPrior:
    """The example keeps the contract of priors."""


def test_the_files_of_the_tutorial_are_those_of_the_example() -> None:
    assert shown_files(PAGE) == files_of(EXAMPLE)
    assert (EXAMPLE / "dvgen_mingru" / "py.typed").read_text() == ""


def test_the_python_of_the_tutorial_runs() -> None:
    run_python(PAGE)


def test_the_example_imports_only_what_is_public() -> None:
    assert private_imports(EXAMPLE, "dvgen_mingru") == set()


def test_the_plugin_is_admitted_and_its_class_is_loaded() -> None:
    registry = discover(["dvgen_mingru"]).registry
    assert registry.failures == []
    assert registry.load("prior", "mingru").__name__ == "MingruPrior"


def test_it_trains_on_images_and_draws_new_ones(tmp_path: Path) -> None:
    tiny = experiment_file(tmp_path, labels=True, quantizer={"use": "ema", "num_codes": 4}, **MINGRU)
    dvgen("train", "--config", tiny, "--accelerator", "cpu", "--out", tmp_path / "run")
    dvgen("sample", tmp_path / "run", "-n", 3, "--guidance", 2, "--accelerator", "cpu")
    assert list((tmp_path / "run" / "samples").iterdir())


@pytest.mark.slow
def test_it_is_compared_on_codes_of_known_probability(tmp_path: Path) -> None:
    """Trained, measured, and every proof that applies is made of it."""
    truth = {"use": "markov", "truth": True, "train": 16, "validation": 8, "test": 8}
    tiny = experiment_file(tmp_path, data=truth, encoder=None, decoder=None, **MINGRU)
    told = dvgen("compare", "--config", tiny, "--accelerator", "cpu", "--out", tmp_path / "grid", "--json")
    (found,) = json.loads(told.stdout)["groups"]
    (row,) = found["rows"]
    assert row["verification"]["verified"]


def remembered(state: Decoding) -> int:
    """Bytes behind the state of a sampling, parts of a longer tensor counted whole."""
    tensors = [tensor for memory in state.memories for tensor in memory] + state.biases
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


def passed(side: int, act: Any) -> int:
    """What is remembered after all codes of a grid of side x side, passed by `act`."""
    level = Level("level", (side, side), 5)
    prior = MingruPrior(MingruPrior.tiny(), levels=(level,), context=ContextShape(num_classes=3)).eval()
    codes = torch.randint(0, 5, (2, level.length), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        state = prior.start(Context(2, labels=torch.tensor([0, 1])))
        act(prior, state, codes)
    assert state.position == level.length
    return remembered(state)


def by_steps(prior: MingruPrior, state: Decoding, codes: Tensor) -> None:
    previous = None
    for code in codes.unbind(dim=1):
        prior.step(state, previous)
        previous = code


def by_skipping(prior: MingruPrior, state: Decoding, codes: Tensor) -> None:
    prior.skip(state, None, codes)


@pytest.mark.parametrize("act", [by_steps, by_skipping])
def test_what_sampling_remembers_has_one_size_at_any_length(act: Any) -> None:
    assert passed(2, act) == passed(4, act) == passed(12, act) > 0


def test_a_layer_is_the_equations_of_the_paper() -> None:
    """Section 3.1 of arXiv 2410.01201, one place after the other, of a convolution written out."""
    torch.manual_seed(0)
    layer = Recurrence(3, 2).double()
    torch.nn.init.normal_(layer.weight)
    x, bias = torch.randn(2, 7, 3, dtype=torch.float64), torch.randn(1, 7, 6, dtype=torch.float64)
    hidden, before = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 1, 3, dtype=torch.float64)
    found, memory = layer(x, bias, Memory(hidden, before))
    last = before[:, 0]
    for place in range(7):
        near = layer.weight[0] * last + layer.weight[1] * x[:, place]
        update, candidate = (near @ layer.gates.weight.T + bias[:, place]).split(3, dim=1)
        gate = 1 / (1 + (-update).exp())
        hidden = (1 - gate) * hidden + gate * candidate
        expected = hidden @ layer.project.weight.T + layer.project.bias
        torch.testing.assert_close(found[:, place], expected, rtol=1e-12, atol=1e-12)
        last = x[:, place]
    torch.testing.assert_close(memory.hidden, hidden, rtol=1e-12, atol=1e-12)
    assert torch.equal(memory.recent[:, 0], x[:, -1])


def test_at_first_channels_remember_from_one_place_to_all() -> None:
    level = Level("level", (8, 8), 5)
    prior = MingruPrior(MingruPrior.Config(layers=2, dim=4), levels=(level,), context=ContextShape())
    for bias in prior.gate_biases(Context(1)):
        update, candidate = bias.flatten().detach().chunk(2)
        torch.testing.assert_close((-update).exp(), torch.tensor([1.0, 4.0, 16.0, 64.0]))
        assert not candidate.any()
