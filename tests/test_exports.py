"""What other programs get: every value of results.json, and enough to do its statistics again."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from toy_results import CODES, LENGTH, document, drawn, fd, group, row, write_comparison

from dvgen.compare.export import CURVE_COLUMNS, EXPORTS, key_hash, read_per_image, write_exports
from dvgen.errors import IntegrityError
from dvgen.evaluation.statistics import holm, paired


def exported(folder: Path) -> dict[str, Any]:
    """A comparison of two priors, with its exports; returns the document."""
    nats = {"gpt": drawn(1), "pixelsnail": drawn(2, mean=3.01)}
    results = write_comparison(folder, nats)
    write_exports(folder, results)
    return results


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_value_is_one_line_with_its_key(tmp_path: Path) -> None:
    results = exported(tmp_path)
    found = lines(tmp_path / "results.csv")
    keys = json.loads((tmp_path / "keys.json").read_text())
    (of_all,) = results["groups"]
    tables = [of_all["tokenizer"], *of_all["references"], *of_all["baselines"]]
    for one in of_all["rows"]:
        tables += [one, *one["repeats"]]
    assert len(found) == sum(len(table["measurements"]) for table in tables)
    for i, one in enumerate(of_all["rows"]):
        for seed, table in (("", one), *((str(s), repeat) for s, repeat in enumerate(one["repeats"]))):
            own = {line["metric"]: line for line in found if (line["name"], line["seed"]) == (one["prior"], seed)}
            assert own.keys() == table["measurements"].keys()
            for metric, value in table["measurements"].items():
                line = own[metric]
                assert (line["group"], line["kind"], line["budget_axis"], line["budget_value"]) == (
                    "0",
                    "prior",
                    "steps",
                    "800",
                )
                assert float(line["value"]) == value["value"], i
                assert [line["low"], line["high"]] == [str(end) for end in value["interval"] or ("", "")]
                assert [line["range_low"], line["range_high"]] == [str(end) for end in value.get("range") or ("", "")]
                assert (line["n"], line["unit"]) == (str(value["n"]), value["key"]["unit"])
                assert keys[line["key"]] == value["key"]


def test_two_protocols_never_share_a_key() -> None:
    one, other = fd(1.0, gen="100")["key"], fd(1.0, gen="500")["key"]
    assert key_hash(one) != key_hash(other)
    assert key_hash(one) == key_hash(dict(reversed(one.items())))


def test_the_statistics_can_be_done_again_from_the_likelihoods_of_images(tmp_path: Path) -> None:
    """With numpy and scipy alone: the NLL of results.json, and the t-test over images of a pair of one seed."""
    results = exported(tmp_path)
    with np.load(tmp_path / "per_image.npz", allow_pickle=False) as arrays:
        nats, names, length = arrays["group_0_nats"], arrays["group_0_priors"], int(arrays["group_0_codes_per_image"])
        assert arrays["group_0_level_nats"].shape == (2, 3, 1, 100)
        assert (arrays["group_0_levels"].tolist(), arrays["group_0_codes"].item()) == (["codes"], CODES)
        assert arrays["group_0_budgets"].tolist() == ["steps:800", "steps:800"]
    assert nats.shape == (2, 3, 100)
    for name, values, one in zip(names, nats, results["groups"][0]["rows"], strict=True):
        assert (name, length) == (one["prior"], LENGTH)
        assert values.mean() / length == pytest.approx(one["measurements"]["nll"]["value"], rel=1e-12)
    again = stats.ttest_rel(nats[0, 0], nats[1, 0])
    assert paired(nats[0, :1], nats[1, :1]).p == pytest.approx(again.pvalue, rel=1e-6)


def test_the_verdict_of_the_likelihoods_is_that_of_the_results(tmp_path: Path) -> None:
    """What `dvgen compare` concludes is concluded again from the file, to the last digit."""
    from dvgen.compare.verdicts import Contestant, verdicts
    from dvgen.evaluation.measurement import Measurement

    nats = {"gpt": drawn(1), "pixelsnail": drawn(2, mean=3.01), "masked": drawn(3)}
    rows = [row(name, table) for name, table in nats.items()]
    rivals = [
        Contestant(
            name=one["prior"],
            budget=one["budget"],
            measurements={"nll": Measurement.from_dict(one["measurements"]["nll"])},
            nats=[seed.sum(axis=0) / LENGTH for seed in nats[one["prior"]]],
            repeats=[],
            unranked="",
        )
        for one in rows
    ]
    results = document([group(rows)])
    results["groups"][0]["verdicts"] = verdicts(rivals)
    write_exports(tmp_path, write_comparison(tmp_path, nats, results))
    with np.load(tmp_path / "per_image.npz", allow_pickle=False) as arrays:
        again = dict(zip(arrays["group_0_priors"].tolist(), arrays["group_0_nats"] / LENGTH, strict=True))
    kept = results["groups"][0]["verdicts"]
    found = [paired(again[one["pair"][0]], again[one["pair"][1]]) for one in kept]
    assert len(kept) == 3
    for one, same, p in zip(kept, found, holm([each.p for each in found]), strict=True):
        assert (one["difference"], tuple(one["interval"])) == (same.difference, same.interval)
        assert one["p_holm"] == p
        assert one["verdict"] == ("tie" if p >= 0.05 else f"{one['pair'][same.difference > 0]} is better")


def test_levels_and_groups_stay_apart(tmp_path: Path) -> None:
    """Two groups; the second has two levels, whose sum is the nats of its images."""
    nats = {"gpt": drawn(1), "gated": np.concatenate([drawn(2), drawn(3)], axis=1)}
    groups = [
        group([row("gpt", nats["gpt"])]),
        group([row("gated", nats["gated"], codes="beef")], "beef", folder="tokenizers/b"),
    ]
    results = document(groups)
    write_exports(tmp_path, write_comparison(tmp_path, nats, results))
    found = read_per_image(tmp_path, results)
    assert [list(one) for one in found] == [[("gpt", "steps:800")], [("gated", "steps:800")]]
    np.testing.assert_array_equal(found[1]["gated", "steps:800"], nats["gated"])
    with np.load(tmp_path / "per_image.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["group_1_nats"][0], nats["gated"][:, 0] + nats["gated"][:, 1])


def test_curves_have_a_line_a_logged_step(tmp_path: Path) -> None:
    exported(tmp_path)
    torn = tmp_path / "rows" / "gpt-steps-800-1" / "metrics.jsonl"
    torn.write_text(torn.read_text() + '{"step": 400, "lo')
    write_exports(tmp_path, json.loads((tmp_path / "results.json").read_text()))
    found = lines(tmp_path / "curves.csv")
    assert list(found[0]) == list(CURVE_COLUMNS)
    assert [line["stage"] for line in found] == ["tokenizer"] * 3 + ["prior"] * 18
    gpt = [line for line in found if (line["name"], line["seed"]) == ("gpt", "1")]
    assert [(line["step"], line["validation"]) for line in gpt] == [("100", ""), ("200", ""), ("300", "0.125")]
    assert gpt[1] == {
        "group": "0", "stage": "prior", "name": "gpt", "budget": "steps:800", "seed": "1", "step": "200",
        "codes": "102400", "flops": "200000000.0", "seconds": "20.0", "loss": "0.025", "validation": "",
    }  # fmt: skip


def test_without_logs_there_are_no_curves_and_without_an_assessment_nothing_is_made_up(tmp_path: Path) -> None:
    results = exported(tmp_path)
    for path in tmp_path.rglob("metrics.jsonl"):
        path.unlink()
    write_exports(tmp_path, results)
    assert lines(tmp_path / "curves.csv") == []
    (tmp_path / "rows" / "gpt-steps-800-1" / "assessment" / "per_image.npz").unlink()
    with pytest.raises(IntegrityError, match=r"per_image\.npz: missing"):
        write_exports(tmp_path, results)


def test_nothing_else_is_left_in_the_folder(tmp_path: Path) -> None:
    exported(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*EXPORTS, "results.json", "rows", "tokenizers"}
