"""The codebook doctor: its numbers are those of all counted positions, it speaks once, and it changes nothing."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_ddp import alone, launched
from test_tokenizer import composed, ema, experiment_of
from torch import Tensor
from toy_runs import loop, same, saved, session, settings, state, watched

from dvgen.errors import NonFiniteError
from dvgen.registry import Registry
from dvgen.tokenizer import Tokenizer, assemble_tokenizer
from dvgen.training.codebook_advice import WINDOW, Features, Use, level_findings, map_findings
from dvgen.training.codebook_doctor import GRACE, PATIENCE, CodebookDoctor
from dvgen.training.findings import OVER, Finding, Record
from dvgen.training.symptoms import Symptom

K = 4
FULL = WINDOW * K


def alone_total(values: Tensor) -> Tensor:
    return values


def batch(codes: list[int] | Tensor, **scalars: float) -> dict[str, Tensor]:
    """What a quantizer of K codes would tell of these codes."""
    known = {
        "quantization_error": 0.1,
        "feature_variance": 1.0,
        "feature_spread": 1.0,
        "feature_norm": math.sqrt(3.0),
        "vector_norm": 1.6,
        "finite": 1.0,
    }
    told = {name: torch.tensor(value) for name, value in (known | scalars).items()}
    counts = torch.bincount(torch.as_tensor(codes), minlength=K)
    return told | {"counts_0": counts, "perplexity_0": torch.tensor(-1.0), "temperature": torch.tensor(0.5)}


@pytest.fixture
def doctor(registry: Registry) -> CodebookDoctor:
    return CodebookDoctor(tokenizer(registry))


def tokenizer(registry: Registry) -> Tokenizer:
    return assemble_tokenizer(registry, experiment_of("ema"), (3, 8, 8))


def by_hand(codes: Tensor) -> tuple[float, float]:
    """Usage and perplexity of codes, one by one in float64."""
    share = [float((codes == code).double().mean()) for code in range(K)]
    return sum(p > 0 for p in share) / K, math.exp(-sum(p * math.log(p) for p in share if p))


def test_use_is_that_of_all_positions_of_a_window_and_not_the_mean_of_batches(doctor: CodebookDoctor) -> None:
    codes = [torch.full((FULL // 4,), code) for code in (0, 1, 1, 3)]
    for part in codes:
        doctor.observe(batch(part))
    values, notices = doctor.report(1, alone_total, finished=False)
    assert (values["usage_0"], values["perplexity_0"]) == pytest.approx(by_hand(torch.cat(codes)))
    assert values["dead_codes_0"] == 1
    assert notices == []


def test_use_is_not_told_of_fewer_positions_than_could_use_every_code(doctor: CodebookDoctor) -> None:
    """They are kept for the next time."""
    for step, told in ((1, False), (2, True), (3, False)):
        doctor.observe(batch(torch.arange(FULL // 2) % (step + 1)))
        values, _ = doctor.report(step, alone_total, finished=False)
        assert ("usage_0" in values) == told
        assert values["commitment_ratio"] == pytest.approx(0.1)
    assert doctor.patients[0].levels[0][1].latest() is not None


def test_a_code_is_dead_when_none_of_the_last_windows_had_it(doctor: CodebookDoctor) -> None:
    history = [[0, 1, 2, 3], [0, 1], [0, 2], [0, 1], [0, 1], [0, 1], [0, 3]]
    for step, used in enumerate(history):
        doctor.observe(batch(torch.tensor(used).repeat(FULL)))
        values, _ = doctor.report(step, alone_total, finished=False)
        recent = {code for window in history[max(0, step + 1 - PATIENCE) : step + 1] for code in window}
        assert values["dead_codes_0"] == K - len(recent)


def test_scalars_are_means_over_batches_and_norms_root_mean_squares(doctor: CodebookDoctor) -> None:
    for error, norm in ((0.2, 3.0), (0.4, 4.0)):
        left = doctor.observe(batch([0], quantization_error=error, feature_variance=2 * error, feature_norm=norm))
        assert left == {"temperature": torch.tensor(0.5)}
    values, _ = doctor.report(1, alone_total, finished=False)
    expected = {"quantization_error": 0.3, "feature_variance": 0.6, "commitment_ratio": 0.5, "feature_norm": math.sqrt(12.5)}
    assert {name: values[name] for name in expected} == pytest.approx(expected)


def test_two_ranks_say_what_one_says_of_both_their_batches(registry: Registry) -> None:
    """One reduction; the ranks hold different numbers."""
    ranks, whole = [CodebookDoctor(tokenizer(registry)) for _ in range(2)], CodebookDoctor(tokenizer(registry))
    seen: list[Tensor] = []
    for rank, code in zip(ranks, (0, 2), strict=True):
        told = batch(torch.full((FULL,), code), feature_norm=1.0 + code, quantization_error=float(code))
        rank.observe(told)
        whole.observe(told)
        rank.report(1, lambda values: seen.append(values.clone()) or values, finished=False)  # type: ignore[func-returns-value]
        rank.observe(told)
    total = seen[0] + seen[1]
    again = [rank.report(2, lambda _: total, finished=False)[0] for rank in ranks]
    expected = whole.report(1, alone_total, finished=False)[0]
    assert len(seen) == 2
    for values in again:
        assert {k: v for k, v in values.items() if k != "dead_codes_0"} == pytest.approx(
            {k: v for k, v in expected.items() if k != "dead_codes_0"}
        )


def test_every_map_has_numbers_of_its_own() -> None:
    doctor = CodebookDoctor(composed([ema(), ema()]))
    stats = {f"{name}.{key}": value for name in ("top", "bottom") for key, value in batch(torch.arange(FULL) % K).items()}
    left = doctor.observe(stats)
    values, _ = doctor.report(GRACE, alone_total, finished=False)
    assert set(left) == {"top.temperature", "bottom.temperature"}
    assert values["top.usage_0"] == values["bottom.usage_0"] == 1.0
    _, notices = doctor.report(GRACE, alone_total, finished=True)
    assert [line.split(":")[0] for line in notices] == ["codebook top", "codebook bottom"]


def spoken(doctor: CodebookDoctor, batches: list[dict[str, Tensor]]) -> list[list[str]]:
    """What is said after each of these batches."""
    told = []
    for i, stats in enumerate(batches):
        doctor.observe(stats)
        told.append(doctor.report(GRACE + i, alone_total, finished=False)[1])
    return told


def test_a_collapse_is_told_once_and_once_when_it_is_over(doctor: CodebookDoctor) -> None:
    one, all_of_them = batch([2] * FULL), batch(torch.arange(FULL) % K)
    told = spoken(doctor, [one] * 5 + [all_of_them] * 5)
    assert [len(lines) for lines in told] == [0, 1, 0, 0, 0, 0, 1, 0, 0, 0]
    assert told[1][0].startswith("codebook: collapsed: perplexity 1.00 of 4 codes, though the features differ")
    assert told[6] == ["codebook: no longer collapsed: 4 codes, 100.0% used, perplexity 4.0"]


def test_nothing_is_judged_in_the_first_steps(doctor: CodebookDoctor) -> None:
    for step in range(GRACE):
        doctor.observe(batch([2] * FULL, quantization_error=5.0))
        assert doctor.report(step, alone_total, finished=False)[1] == []


def test_the_last_word_is_of_what_was_counted_and_says_how_little(doctor: CodebookDoctor) -> None:
    doctor.observe(batch([0, 1, 0, 1]))
    verdict, *rest = doctor.report(GRACE, alone_total, finished=True)[1]
    reached = 1 - (1 - 1 / K) ** 4
    assert verdict == (
        "codebook: 4 codes, 50.0% used, perplexity 2.0 (only 4 positions were counted: "
        f"{reached:.1%} if all codes were used alike), commitment ratio 0.10"
    )
    assert rest == []


def test_at_the_end_what_still_holds_is_told_again(doctor: CodebookDoctor) -> None:
    spoken(doctor, [batch([2] * FULL)] * 3)
    verdict, finding = doctor.report(GRACE + 3, alone_total, finished=True)[1]
    assert verdict == "codebook: 4 codes, 25.0% used, perplexity 1.0, commitment ratio 0.10"
    assert finding.startswith("codebook: collapsed")


HEALTHY = Features(
    ratio=0.3, spread=0.8, vector_norm=1.0, lengths=(1.0, 1.1), certified=0.999, deterministic=True, table=True,
    remedy="searched",
)  # fmt: skip


def use(frequencies: Tensor, unused: int = 0) -> Use:
    share = frequencies / frequencies.sum()
    perplexity = float(torch.exp(-(share * share.clamp(min=1e-30).log()).sum()))
    k = len(share)
    return Use(num_codes=k, positions=20 * k, used=int((share > 0).sum()), perplexity=perplexity, unused=unused, since=60 * k)


def severe(findings: list[Finding]) -> set[str]:
    return {finding.kind for finding in findings if finding.severity >= 1}


@pytest.mark.parametrize("k", [2, 4, 16, 512, 16384])
def test_a_healthy_codebook_is_silent(k: int) -> None:
    """Used evenly, or with frequencies of 1/rank, as those of words; in half of the windows a third of it rests."""
    for frequencies in (torch.ones(k), 1 / torch.arange(1, k + 1)):
        assert severe(level_findings("codebook", use(frequencies.double(), unused=k // 3), HEALTHY)) == set()
    assert severe(map_findings("features", HEALTHY, collapsed=False)) == set()


def changed(**values: Any) -> Features:
    import attrs

    return attrs.evolve(HEALTHY, **values)


@pytest.mark.parametrize(
    ("features", "collapsed", "kinds"),
    [
        (changed(ratio=1.2), False, {"away"}),
        (changed(ratio=1.2), True, set()),
        (changed(ratio=1.2, deterministic=False), False, set()),
        (changed(ratio=0.7, lengths=(1.0, 1.2, 1.5, 1.8, 2.0, 2.1)), False, {"runaway"}),
        (changed(ratio=0.3, lengths=(1.0, 1.2, 1.5, 1.8, 2.0, 2.1)), False, set()),
        (changed(ratio=0.7, lengths=(1.0, 1.2, 1.5, 1.4, 2.0, 2.1)), False, set()),
        (changed(certified=0.05), False, {"uncertain"}),
        (changed(certified=None), False, set()),
    ],
)
def test_each_illness_of_features_has_its_own_name(features: Features, collapsed: bool, kinds: set[str]) -> None:
    assert severe(map_findings("features", features, collapsed=collapsed)) == kinds


def test_each_illness_of_a_level_has_its_own_name_and_advice() -> None:
    k = 512
    half = torch.cat([torch.ones(100), torch.zeros(k - 100)]).double()
    skewed = torch.cat([torch.full((8,), 1e4), torch.ones(k - 8)]).double()
    one = torch.eye(k, dtype=torch.float64)[0]
    for frequencies, unused, kind in ((half, 412, "unused"), (skewed, 0, "skew"), (one, 511, "collapse")):
        assert severe(level_findings("codebook", use(frequencies, unused), HEALTHY)) == {kind}
    dead = next(f for f in level_findings("codebook", use(half, 412), HEALTHY) if f.kind == "unused")
    assert "412 of 512 codes" in dead.sees
    assert "quantizer.num_codes=128" in dead.change
    for remedy, word in (("searched", "revive"), ("entropy", "bsq"), ("sampled", "kl"), ("fixed", "budget")):
        features = changed(table=False, remedy=remedy)
        without = next(f for f in level_findings("codebook", use(half, 412), features) if f.kind == "unused")
        assert "num_codes" not in without.change
        assert word in without.change
    alike = level_findings("codebook", use(one, 511), changed(spread=1e-4))[0]
    assert "the features are all alike" in alike.sees
    assert "train.tokenizer.lr" in alike.change


def test_what_a_collapse_hides_is_not_said_to_be_over() -> None:
    """Of two codes in use, one is lost: the others are no more in use than before."""
    record, k = Record(), 64
    two, one = (torch.cat([torch.ones(n), torch.zeros(k - n)]).double() for n in (4, 1))
    told = []
    for frequencies, unused in ((two, k - 4), (one, k - 1)):
        for _ in range(3):
            told += record.judge(level_findings("codebook", use(frequencies, unused), HEALTHY))
    assert ["did not occur" in told[0], "collapsed" in told[1], len(told)] == [True, True, 2]


def test_a_number_that_wavers_about_a_threshold_is_told_once() -> None:
    record = Record()
    words = {"kind": "skew", "where": "codebook", "sees": "seen", "change": "this", "over": "over"}
    severities = [1.1, 0.9, 1.1, 1.1, 0.9, 1.1, 0.85, 0.7, 0.9, 0.7, OVER - 0.1, 0.9]
    told = [record.judge([Finding(**words, symptom=Symptom.UNEVEN_CODES, severity=s)]) for s in severities]
    assert [i for i, lines in enumerate(told) if lines] == [3, 10]
    assert told[3] == ["codebook: seen. Try: this. See docs/troubleshooting.md#codes-are-used-unevenly"]
    assert told[10] == ["codebook: over"]


class Nobody:
    """In the doctor's place."""

    def observe(self, stats: dict[str, Tensor]) -> dict[str, Tensor]:
        return {}

    def report(self, step: int, total: Callable[[Tensor], Tensor], *, finished: bool) -> tuple[dict[str, float], list[str]]:
        return {}, []


@pytest.mark.parametrize("quantizer", ["vq", "gumbel"])
def test_training_is_the_same_without_a_doctor(tmp_path: Path, quantizer: str) -> None:
    loop(session(), "tokenizer", tmp_path / "with", quantizer=quantizer).run()
    made = loop(session(), "tokenizer", tmp_path / "without", quantizer=quantizer)
    made.stage.doctor = Nobody()  # type: ignore[attr-defined]
    made.run()
    assert same(saved(tmp_path / "with"), saved(tmp_path / "without"))


def test_a_run_is_told_in_its_metrics(tmp_path: Path) -> None:
    loop(session(), "tokenizer", tmp_path / "run", budget=f"steps:{GRACE + 10}", log_every=5, lr=1e-3).run()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    names = {"usage_0", "perplexity_0", "dead_codes_0", "commitment_ratio", "feature_norm", "vector_norm"}
    assert names <= lines[-2].keys()
    assert [line["step"] for line in lines if "notice" in line] == [GRACE + 10], "one verdict, and nothing else is wrong"
    assert lines[-1]["notice"].startswith("codebook: 4 codes, ")


def test_a_quantizer_that_says_its_values_are_not_finite_stops_training(tmp_path: Path) -> None:
    """As compiled code must, which cannot raise; nothing of the step is applied."""
    opened, watch = watched()
    made = loop(opened, "tokenizer", tmp_path / "run", quantizer="vq")
    quantizer = made.stage.module.quantizers[0]  # type: ignore[union-attr, index]
    whole, kept = quantizer.forward, []

    def forward(z: Tensor, mask: Tensor | None = None) -> Any:
        told = whole(z, mask)
        return told._replace(stats=told.stats | {"finite": torch.tensor(float(made.step != 3))})

    quantizer.forward = forward
    watch.at, watch.act = 3, lambda: kept.append(state(made))
    with pytest.raises(NonFiniteError, match="tokenizer, step 3"):
        made.run()
    assert same(state(made), kept[0])


@pytest.mark.slow
def test_two_processes_log_what_one_does(tmp_path: Path) -> None:
    """Use, norms and ratio are over both halves of the batch; the other values of a line are rank 0's own."""
    arguments = [
        "--prior",
        "independent",
        "--quantizer",
        "vq",
        "--json",
        *settings("train.tokenizer.log_every=2", steps=(8, 8)),
    ]
    done = launched("dvgen", "train", "--out", str(tmp_path / "two"), *arguments)
    assert done.returncode == 0, done.stderr
    alone("train", "--out", str(tmp_path / "one"), *arguments)
    names = ("usage_0", "perplexity_0", "dead_codes_0", "quantization_error", "feature_norm", "vector_norm")
    logs = [(tmp_path / name / "tokenizer" / "metrics.jsonl").read_text().splitlines() for name in ("one", "two")]
    for one, two in zip(*([json.loads(line) for line in log] for log in logs), strict=True):
        assert {name: two.get(name) for name in names} == pytest.approx({name: one.get(name) for name in names}, rel=1e-4)
    assert any("usage_0" in line for line in logs[0])
