"""Budgets: what training spends is counted rightly, ends it at one step however it was cut, and costs the result nothing."""

import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from test_adversarial import made as game_loop
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from toy_components import IndependentPrior
from toy_runs import STAGES, loop, same, saved, session, state, toy_cache, watched

from dvgen.code_model import CodeModel
from dvgen.data.order import permutation
from dvgen.errors import ConfigError, NonFiniteError, Stopped
from dvgen.evaluation.nll import per_image_nats
from dvgen.experiment import Training
from dvgen.interfaces.context import ContextShape
from dvgen.sealed import seal
from dvgen.seeding import fold
from dvgen.training import meter as metering
from dvgen.training.budget import HELD_OUT_POINTS, Budget, passes_point
from dvgen.training.checkpoint import FOLDER, load_checkpoint, load_newest, steps
from dvgen.training.loop import Loop, Plan, Stage, StepResult
from dvgen.training.meter import Meter, Spent
from dvgen.training.prior import PriorStage

CODES = {"tokenizer": 16, "prior": 4}
"""Codes of a signal of the toy stages: grids of 4x4 and of 2x2."""


class Layer(Stage):
    """A linear layer of 5 inputs and 3 outputs, fitted to nothing; counts what it sees."""

    name = "layer"
    size, codes = 24, 7

    def __init__(self, *, slow: float = 0.0) -> None:
        self.module = nn.Linear(5, 3)
        self.slow = slow
        self.held_out_at: list[int] = []

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters())}]

    def compute(self, modules: Sequence[nn.Module], indices: Tensor, step: int) -> StepResult:
        x = torch.ones(len(indices), 5, requires_grad=True)  # so that backward has two products, as inside a network
        self.held_out_at.append(step + 1)
        return StepResult(modules[0](x).square().mean(), {}, {})

    def held_out(self, batch: int) -> float:
        time.sleep(self.slow)
        return float(self.held_out_at[-1])


def layer_loop(folder: Path, opened: Any = None, *, slow: float = 0.0, **training: Any) -> Loop:
    torch.manual_seed(0)
    settings = Training(**({"budget": "steps:4", "batch": 8, "checkpoint_every": 100} | training))
    return Loop(opened or session(), Layer(slow=slow), Plan(folder, settings, 0, {}))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_operations_are_those_of_matrix_products_forward_and_backward(tmp_path: Path, micro_batches: int) -> None:
    """A product of (m, k) and (k, n) takes 2mnk; backward two more of the same size: one a factor."""
    done = layer_loop(tmp_path / "run", micro_batches=micro_batches).run()
    assert done.spent == Spent(steps=4, codes=4 * 8 * 7, flops=4 * 3 * (2 * 8 * 5 * 3), seconds=done.seconds)


@pytest.mark.parametrize("name", STAGES)
def test_all_four_are_logged_and_kept(tmp_path: Path, name: str) -> None:
    """Codes by hand: batches of 8 signals. What is kept in the finished run can be read back from its folder."""
    done = loop(session(), name, tmp_path / "run").run()
    told = lines(tmp_path / "run")
    assert [line["step"] for line in told] == [1, 2, 3, 4, 5, 6]
    assert [line["codes"] for line in told] == [8 * CODES[name] * step for step in range(1, 7)]
    cost = told[0]["flops"]
    assert cost > 0
    assert [line["flops"] for line in told] == [cost * step for step in range(1, 7)]
    seconds = [line["seconds"] for line in told]
    assert seconds == sorted(seconds)
    found = load_checkpoint(steps(tmp_path / "run")[0])
    assert found.spent == done.spent == Spent(steps=6, codes=48 * CODES[name], flops=6 * cost, seconds=done.seconds)
    assert done.seconds == pytest.approx(seconds[-1], abs=0.05)


class Independent(FlopCounterMode):
    """Another counter, of nothing: for a run whose operations are not counted."""

    def __init__(self, *, display: bool) -> None:
        super().__init__(display=display)

    def __enter__(self) -> "Independent":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get_total_flops(self) -> int:
        return 1


@pytest.mark.parametrize("name", [*STAGES, "game"])
def test_counting_operations_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def trained(folder: str) -> dict[str, Tensor]:
        made = game_loop(tmp_path / folder, begin=1, start=3) if name == "game" else loop(session(), name, tmp_path / folder)
        made.run()
        return saved(tmp_path / folder)

    counted = trained("counted")
    monkeypatch.setattr(metering, "FlopCounterMode", Independent)
    assert same(counted, trained("uncounted"))
    assert load_checkpoint(steps(tmp_path / "uncounted")[0]).flops <= 6, "the counter must have been replaced"


def test_every_kind_of_step_of_a_game_is_counted_once_and_no_stop_changes_the_sum(tmp_path: Path) -> None:
    """The critic trains from step 1 on, the generator hears of it from step 3 on: three costs, each above the one before."""
    game_loop(tmp_path / "whole", begin=1, start=3).run()
    told = [line for line in lines(tmp_path / "whole") if "flops" in line]
    totals = [0, *(line["flops"] for line in told)]
    costs = [after - before for before, after in itertools.pairwise(totals)]
    assert costs[0] < costs[1] == costs[2] < costs[3] == costs[4] == costs[5]
    opened, _ = watched(4)
    with pytest.raises(Stopped):
        game_loop(tmp_path / "cut", opened, begin=1, start=3).run()
    done = game_loop(tmp_path / "cut", begin=1, start=3).run()
    assert done.flops == totals[-1]
    assert same(saved(tmp_path / "cut"), saved(tmp_path / "whole"))


@pytest.mark.parametrize("unit", ["codes", "flops"])
@pytest.mark.parametrize("name", STAGES)
def test_a_budget_of_codes_or_operations_ends_at_the_first_step_that_reaches_it(tmp_path: Path, unit: str, name: str) -> None:
    """It trains what the same number of steps trains, bit for bit, learning rates and all, stopped on the way or not."""
    measured = loop(session(), name, tmp_path / "measured", budget="steps:5").run()
    cost = getattr(measured, unit) // 5
    exact, less = f"{unit}:{5 * cost}", f"{unit}:{4 * cost + 1}"
    done = loop(session(), name, tmp_path / "exact", budget=exact).run()
    assert done.step == 5
    assert same(saved(tmp_path / "exact"), saved(tmp_path / "measured"))
    assert loop(session(), name, tmp_path / "less", budget=less).run().step == 5
    for cut in (1, 3):
        folder = tmp_path / f"cut{cut}"
        with pytest.raises(Stopped):
            loop(watched(cut)[0], name, folder, budget=exact).run()
        loop(session(), name, folder, budget=exact).run()
        assert same(saved(folder), saved(tmp_path / "measured"))


def test_a_count_that_another_process_would_make_differently_does_not_move_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The count of the checkpoint holds: a resumed run does not count again."""
    with pytest.raises(Stopped):
        layer_loop(tmp_path / "run", watched(1)[0], budget="flops:2880").run()
    monkeypatch.setattr(metering, "FlopCounterMode", Independent)
    assert layer_loop(tmp_path / "run", budget="flops:2880").run().spent.steps == 4


def test_operations_that_cannot_be_counted_are_no_budget(tmp_path: Path) -> None:
    """A table of logits has no matrix product: its budget would never end."""
    cache = toy_cache(tmp_path / "tokens")
    prior = IndependentPrior(IndependentPrior.Config(), levels=cache.levels, context=ContextShape())
    stage = PriorStage(CodeModel([prior]), cache, labels=False, seed=0)
    plan = Plan(tmp_path / "run", Training(budget="flops:1e9", batch=8), 0, {})
    with pytest.raises(ConfigError, match="budget flops:1e\\+09: a step of this model has no matrix product"):
        Loop(session(), stage, plan).run()


def test_a_run_from_before_there_were_counts_is_read_and_goes_on(tmp_path: Path) -> None:
    """What the steps before would have cost is added when the next one is counted."""
    layer_loop(tmp_path / "whole").run()
    with pytest.raises(Stopped):
        layer_loop(tmp_path / "run", watched(2)[0], log_every=1).run()
    place = steps(tmp_path / "run")[0]
    older = {key: json.loads((place / "state.json").read_text())[key] for key in ("step", "seconds", "finished", "config")}
    (place / "state.json").write_text(json.dumps(older))
    files = {path.name: path.read_bytes() for path in place.iterdir() if path.suffix == ".safetensors" or path.stem == "state"}
    seal(place, lambda aside: [(aside / name).write_bytes(data) for name, data in files.items()] and None, {})
    found = load_newest(tmp_path / "run")
    assert found is not None
    assert (found.spent.steps, found.spent.codes, found.spent.flops) == (2, 0, 0)
    done = layer_loop(tmp_path / "run").run()
    assert (done.codes, done.flops) == (4 * 8 * 7, 4 * 720)
    assert same(saved(tmp_path / "run"), saved(tmp_path / "whole"))


def test_seconds_are_of_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only moves when told: a step takes 1, a count 50, logging 100, held-out codes 1000, saving 10000."""
    now = [0.0]
    monkeypatch.setattr(metering.time, "monotonic", lambda: now[0])
    opened, watch = watched()
    made = layer_loop(tmp_path / "run", opened, log_every=1, checkpoint_every=2, budget="steps:6")

    def takes(seconds: float, owner: object, name: str) -> None:
        real = getattr(owner, name)

        def slowly(*arguments: Any, **named: Any) -> Any:
            now[0] += seconds
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, slowly)

    takes(1.0, made.stage, "compute")
    takes(1000.0, made.stage, "held_out")
    takes(50.0, FlopCounterMode, "get_total_flops")
    monkeypatch.setattr(watch, "at", 3)
    monkeypatch.setattr(watch, "act", lambda: now.__setitem__(0, now[0] + 100))
    monkeypatch.setattr("dvgen.training.loop.save_checkpoint", lambda *_: now.__setitem__(0, now[0] + 10000))
    assert made.run().seconds == 5.0  # the first step is warm-up
    assert [values["seconds"] for values in watch.values] == [0, 1, 2, 3, 4, 5]
    assert [values["examples_per_second"] for values in watch.values] == [0, 8, 8, 8, 8, 8]
    assert now[0] > 16000


def test_a_slow_validation_is_not_training(tmp_path: Path) -> None:
    """By the real clock."""
    began = time.monotonic()
    done = layer_loop(tmp_path / "run", slow=0.05).run()
    assert time.monotonic() - began > 0.2
    assert done.seconds < 0.1


def test_ranks_share_one_clock_and_add_their_operations() -> None:
    """Two ranks: a budget of seconds must end at the same step on both, or one would wait for the other forever."""

    @attrs.define
    class Fabric:
        world_size: int = 2
        device: torch.device = attrs.field(factory=lambda: torch.device("cpu"))

        def all_reduce(self, values: Tensor, reduce_op: str) -> Tensor:
            return values + (720 if values.dtype == torch.int64 else 3.0)  # what the other rank has

    meter = Meter(codes_per_step=1, fabric=Fabric())  # type: ignore[arg-type]
    meter.start()
    with meter.step("step"):
        torch.ones(8, 5) @ torch.ones(5, 3)
    before = meter.seconds
    with meter.step("step"):
        pass
    assert meter.spent.flops == 2 * (240 + 720)
    assert 1.5 <= meter.seconds - before < 1.6


def test_points_are_evenly_spaced_and_the_end_is_one() -> None:
    for n in (1, 7, 20, 100, 800, 1999):
        budget = Budget("steps", n)
        progress = [budget.progress(Spent(steps=step)) for step in range(n + 1)]
        points = [step for step in range(1, n + 1) if passes_point(progress[step - 1], progress[step])]
        assert len(points) == min(n, HELD_OUT_POINTS)
        assert points[-1] == n
        gaps = [after - before for before, after in itertools.pairwise([0, *points])]
        assert max(gaps) - min(gaps) <= 2


@pytest.mark.parametrize("unit", ["steps", "codes", "flops"])
def test_held_out_codes_are_looked_at_at_the_same_steps_after_a_stop(tmp_path: Path, unit: str) -> None:
    budget = {"steps": "steps:50", "codes": f"codes:{50 * 56}", "flops": f"flops:{50 * 720}"}[unit]
    layer_loop(tmp_path / "whole", budget=budget, log_every=1000).run()
    whole = [(line["step"], line["validation"]) for line in lines(tmp_path / "whole") if "validation" in line]
    assert [step for step, _ in whole] == [3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28, 30, 33, 35, 38, 40, 43, 45, 48, 50]
    assert [line["step"] for line in lines(tmp_path / "whole")] == [1, *(step for step, _ in whole)]
    for cut in (8, 30):
        opened, _ = watched(cut)
        with pytest.raises(Stopped):
            layer_loop(tmp_path / f"cut{cut}", opened, budget=budget, log_every=1000).run()
        layer_loop(tmp_path / f"cut{cut}", budget=budget, log_every=1000).run()
        assert [(line["step"], line["validation"]) for line in lines(tmp_path / f"cut{cut}") if "validation" in line] == whole


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_last_point_is_the_likelihood_of_validation_codes_under_the_weights_that_evaluation_uses(
    tmp_path: Path, ema: float
) -> None:
    """Against `per_image_nats` on the same images (all four there are), after training; dropout is 0.1 in training."""
    made = loop(session(), "prior", tmp_path / "run", ema=ema)
    made.run()
    cache = toy_cache(tmp_path / "tokens")
    nats = per_image_nats(made.stage.module.eval(), cache.codes("validation"), None, 4)
    assert lines(tmp_path / "run")[-1]["validation"] == pytest.approx(nats.sum() / 16, rel=1e-6)


def test_at_most_a_few_images_are_looked_at_and_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = loop(session(), "prior", tmp_path / "run")
    monkeypatch.setattr("dvgen.training.prior.HELD_OUT", 3)
    chosen = permutation(4, fold(0, "held-out"))[:3]
    model = made.stage.module.eval()
    wanted = per_image_nats(model, toy_cache(tmp_path / "tokens").codes("validation", chosen), None, 2).sum() / 12
    assert made.stage.held_out(2) == pytest.approx(wanted, rel=1e-9)
    assert made.stage.held_out(2) == made.stage.held_out(2)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_looking_at_held_out_codes_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema: float) -> None:
    """Weights, averages, training flags; even of a model that draws random numbers when it is evaluated."""
    loop(session(), "prior", tmp_path / "with", ema=ema).run()
    drawing = loop(session(), "prior", tmp_path / "drawing", ema=ema)
    real, flags = drawing.stage.held_out, []

    def drawn(batch: int) -> float | None:
        F.dropout(torch.ones(9), 0.5)
        before = state(drawing)
        found = real(batch)
        assert same(state(drawing), before)
        flags.append({module.training for module in drawing.stage.module.modules()})
        return found

    monkeypatch.setattr(drawing.stage, "held_out", drawn)
    drawing.run()
    assert flags == [{True}] * 6
    monkeypatch.setattr(Loop, "_held_out", lambda *_: {})
    loop(session(), "prior", tmp_path / "without", ema=ema).run()
    assert same(saved(tmp_path / "with"), saved(tmp_path / "without"))
    assert same(saved(tmp_path / "with"), saved(tmp_path / "drawing"))


def test_a_held_out_value_that_is_no_likelihood_is_told_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> float:
        raise NonFiniteError("the log-probability of image 0, level 0, is not finite")

    loop(session(), "prior", tmp_path / "whole").run()
    monkeypatch.setattr(PriorStage, "held_out", broken)
    loop(session(), "prior", tmp_path / "run").run()
    assert same(saved(tmp_path / "run"), saved(tmp_path / "whole"))
    told = [line for line in lines(tmp_path / "run") if "notice" in line]
    assert told[0] == {"step": 1, "notice": "held-out codes: the log-probability of image 0, level 0, is not finite"}
    assert not any("validation" in line for line in lines(tmp_path / "run"))


def test_a_checkpoint_folder_says_in_plain_text_what_was_spent(tmp_path: Path) -> None:
    layer_loop(tmp_path / "run").run()
    told = json.loads((tmp_path / "run" / FOLDER / "step-00000004" / "state.json").read_text())
    assert (told["step"], told["codes"], told["flops"], told["costs"]) == (4, 224, 2880, {"step": 720})
