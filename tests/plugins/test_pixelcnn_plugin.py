"""The gated PixelCNN as a prior: its caches, its context, its start, its size, what it learns and what it refuses."""

import itertools
import math

import pytest
import torch
from torch import Generator, Tensor
from torch.utils.flop_counter import FlopCounterMode

from dvgen.config import structure
from dvgen.errors import ConfigError
from dvgen.interfaces.codes import Level
from dvgen.interfaces.context import UNCONDITIONAL, Context, ContextShape
from dvgen_pixelcnn.prior import PixelCNN

ALONE = ContextShape()


def config(layers: int, **changes: object) -> PixelCNN.Config:
    """A narrow network with small kernels."""
    sizes = {"channels": 4, "head_channels": 8, "first_kernel": 3, "kernel": 3, "conditioning_blocks": 1, "dropout": 0.0}
    return PixelCNN.Config(layers=layers, **{**sizes, **changes})


def build(config: PixelCNN.Config, grid: tuple[int, ...], context: ContextShape = ALONE, num_codes: int = 5) -> PixelCNN:
    """A PixelCNN in float64 whose every path, its biases too, is strong."""
    torch.manual_seed(0)
    prior = PixelCNN(config, levels=(Level("level", grid, num_codes),), context=context).double().eval()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return prior


def random_codes(batch: int, grid: tuple[int, ...], num_codes: int = 5) -> Tensor:
    """Random codes."""
    return torch.randint(0, num_codes, (batch, *grid), generator=Generator().manual_seed(0))


def stepped(prior: PixelCNN, codes: Tensor, context: Context) -> Tensor:
    """The logits (b, t, num_codes) from the caches, one position at a time."""
    state, previous, rows = prior.start(context), None, []
    for position in range(prior.level.length):
        rows.append(prior.step(state, previous))
        previous = codes.flatten(1)[:, position]
    return torch.stack(rows, dim=1)


CONTEXTUAL = {
    (5, 7): ContextShape((Level("top", (2, 3), 4),), 3),
    (7, 1): ContextShape((Level("top", (2, 1), 4),), 3),
    (16,): ContextShape((Level("top", (5,), 4),), 3),
}


@pytest.mark.parametrize("grid", list(CONTEXTUAL), ids=str)
@pytest.mark.parametrize("dilations", [(1,), (1, 2, 4)], ids=str)
def test_the_caches_give_the_logits(grid: tuple[int, ...], dilations: tuple[int, ...]) -> None:
    prior = build(config(5, dilations=dilations, first_kernel=5), grid, CONTEXTUAL[grid])
    codes, (top,) = random_codes(3, grid), CONTEXTUAL[grid].coarser
    context = Context(3, (random_codes(3, top.grid, 4),), torch.tensor([0, UNCONDITIONAL, 2]))
    with torch.no_grad():
        whole = prior.logits(codes, context).flatten(1, -2)
        torch.testing.assert_close(stepped(prior, codes, context), whole, rtol=0, atol=1e-10)
    assert float(whole.std()) > 0.05


@pytest.mark.parametrize("grid", [(6, 5), (12,)], ids=str)
def test_drawing_a_map_costs_as_much_as_one_pass(grid: tuple[int, ...]) -> None:
    """Every product of the teacher-forced pass is done once and none twice: a step that repeated any work would cost more."""
    prior = build(config(4, dilations=(1, 2)), grid).requires_grad_(False)
    codes = random_codes(2, grid)
    costs = []
    for run in (prior.logits, lambda codes, context: stepped(prior, codes, context)):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run(codes, Context(2))
        costs.append(counter.get_total_flops())
    assert costs[0] == costs[1] > 0


@pytest.mark.parametrize("source", ["labels", "coarser"])
@pytest.mark.parametrize("stack", ["horizontal", "vertical"])
def test_the_context_enters_the_gates_of_each_stack(source: str, stack: str) -> None:
    """With the other stack's gates deaf the logits still depend on it, and with both deaf no longer."""
    prior = build(config(3), (5, 7), CONTEXTUAL[5, 7])
    codes, top = random_codes(2, (5, 7)), random_codes(2, (2, 3), 4)
    labels = torch.tensor([0, 1])
    contexts = [Context(2, (top,), labels), Context(2, ((top + 1) % 4,), labels)]
    if source == "labels":
        contexts[1] = Context(2, (top,), (labels + 1) % 3)
    weight = prior.gate_biases.sources[source][1].weight.unflatten(0, (5, 8))

    def change() -> bool:
        before, after = (prior.logits(codes, context) for context in contexts)
        return bool((before != after).any())

    halves = (weight[3:], weight[:3]) if stack == "horizontal" else (weight[:3], weight[3:])
    with torch.no_grad():
        halves[0].zero_()
        assert change()
        halves[1].zero_()
        assert not change()


def test_a_line_is_a_grid_of_one_row_and_has_no_vertical_stack() -> None:
    line, row = (build(config(3), grid) for grid in ((6,), (1, 6)))
    row.load_state_dict(line.state_dict())
    codes = random_codes(3, (6,))
    assert line.vertical is None
    assert torch.equal(line.logits(codes, Context(3)), row.logits(codes.unsqueeze(1), Context(3)).squeeze(1))


@pytest.mark.parametrize("grid", [(8, 8), (64,)], ids=str)
def test_training_starts_from_the_uniform_distribution(grid: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    prior = PixelCNN(PixelCNN.Config(), levels=(Level("level", grid, 512),), context=ContextShape(num_classes=10))
    with torch.no_grad():
        start = float(prior.loss((random_codes(4, grid, 512),), Context(4, labels=torch.arange(4))))
    assert start == pytest.approx(math.log(512), abs=0.01)


@pytest.mark.parametrize("grid", [(4, 4), (16,)], ids=str)
def test_parameters_are_as_many_as_the_formula_says(grid: tuple[int, ...]) -> None:
    d, head, layers, k, first, codes, classes = 6, 10, 4, 5, 7, 11, 3
    context = ContextShape((Level("top", grid, 13),), classes)
    sizes = {"channels": d, "head_channels": head, "kernel": k, "first_kernel": first, "conditioning_blocks": 2}
    prior = build(config(layers, **sizes), grid, context, num_codes=codes)
    horizontal = 2 * d * d * (first // 2 + (layers - 1) * (k // 2 + 1)) + layers * (d * d + d)
    vertical = 2 * d * d * ((first // 2) * first + (layers - 1) * (k // 2 + 1) * k) + layers * (2 * d) ** 2
    gates = 2 * layers - 1
    if len(grid) == 1:
        vertical, gates = 0, layers
    embeddings = d * (codes + classes + 1 + 13 + 1)
    conditioning = 2 * (9 * d * d + d + d * d + d) + 2 * gates * 2 * d * d
    output = d * head + head + head * codes + codes
    expected = embeddings + horizontal + vertical + gates * 2 * d + conditioning + output
    assert sum(parameter.numel() for parameter in prior.parameters()) == expected


def test_weight_decay_spares_biases_and_embeddings() -> None:
    prior = build(config(3), (5, 7), CONTEXTUAL[5, 7])
    names = {id(parameter): name for name, parameter in prior.named_parameters()}
    decayed, spared = ([names[id(p)] for p in group["params"]] for group in prior.parameter_groups())
    tables = {"codes.weight", "gate_biases.sources.labels.0.weight", "gate_biases.sources.coarser.0.maps.0.embedding.weight"}
    assert prior.parameter_groups()[1]["weight_decay"] == 0.0
    assert set(spared) == {name for name in names.values() if name.endswith("bias")} | tables
    assert sorted(decayed + spared) == sorted(names.values())


def noisy_copies(batch: int, noise: float, generator: Generator) -> Tensor:
    """4x4 maps of four codes: each repeats the code above it, in the first row the one to its left, or is another one."""
    codes = torch.randint(0, 4, (batch, 4, 4), generator=generator)
    slips = torch.randint(1, 4, codes.shape, generator=generator)
    slips *= torch.rand(codes.shape, generator=generator) < noise
    for row, column in itertools.product(range(4), range(4)):
        if row or column:
            source = codes[:, row - 1, column] if row else codes[:, 0, column - 1]
            codes[:, row, column] = (source + slips[:, row, column]) % 4
    return codes


def test_it_learns_a_source_to_its_entropy() -> None:
    """log 4 for the first code, and for each other one the entropy of a repetition that fails one time in ten."""
    noise, generator = 0.1, Generator().manual_seed(0)
    entropy = (math.log(4) + 15 * -((1 - noise) * math.log(1 - noise) + noise * math.log(noise / 3))) / 16
    torch.manual_seed(0)
    prior = PixelCNN(config(2, channels=16, head_channels=16), levels=(Level("level", (4, 4), 4),), context=ALONE)
    optimiser = torch.optim.Adam(prior.parameter_groups(), lr=2e-2)
    for _ in range(150):
        optimiser.zero_grad()
        prior.loss((noisy_copies(64, noise, generator),), Context(64)).backward()
        optimiser.step()
    with torch.no_grad():
        nats = float(prior.eval().loss((noisy_copies(4000, noise, generator),), Context(4000)))
    assert entropy - 0.01 < nats < entropy + 0.03


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": 4}, "'kernel' must be odd: 4"),
        ({"first_kernel": 6}, "'first_kernel' must be odd: 6"),
        ({"first_kernel": 3, "dilations": [2, 4]}, "2 is more than the 1 places"),
        ({"layers": 4, "first_kernel": 5, "dilations": [1, 8, 2]}, "8 is more than the 5 places"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], message: str) -> None:
    """A dilation may skip no more than narrower layers fill: two, then one and two, then eight over five places."""
    with pytest.raises(ConfigError, match=message):
        structure(settings, PixelCNN.Config, "prior")


def test_dilations_of_layers_that_do_not_exist_are_not_counted() -> None:
    assert structure({"layers": 2, "dilations": [1, 64]}, PixelCNN.Config, "prior").layer_dilations() == (1, 1)


def test_grids_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="one or two axes"):
        build(config(2), (2, 2, 2))
    with pytest.raises(ConfigError, match="'top' of grid"):
        build(config(2), (4, 4), ContextShape((Level("top", (8, 8), 5),)))


def test_dropout_acts_in_training_only() -> None:
    prior = build(config(2, dropout=0.5), (3, 3))
    codes = torch.zeros(1, 3, 3, dtype=torch.int64)
    assert torch.equal(prior.logits(codes, Context(1)), prior.logits(codes, Context(1)))
    prior.train()
    assert not torch.equal(prior.logits(codes, Context(1)), prior.logits(codes, Context(1)))
