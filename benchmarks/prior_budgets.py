"""PixelSNAIL against a transformer on the same codes, with equal parameters, at equal steps and at equal training time.

    python benchmarks/prior_budgets.py --data folder:DIR [--steps 600] [--seconds 90] [--seeds 3] [--out FOLDER] [--json FILE]

Table 1 of the VQGAN paper (Esser et al. 2021) compares the two so, in single runs; here with intervals, over repeats. It is one
`dvgen compare`, whose report lies in --out; the JSON keeps its numbers without the samples. Work that is finished in --out is
not done again. Nothing else should run beside it: the budget in seconds is of this machine.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dvgen.sealed import write_json

ROW = ("prior", "budget", "parameters", "budget_spent", "samples_per_second", "verification", "ranked", "measurements")
TOKENIZER = ("name", "encoder", "images", "codes", "levels", "parameters", "budget_spent", "measurements")
SHORT = {"value", "interval", "range", "n"}


def compared(options: argparse.Namespace) -> dict[str, Any]:
    """The results of the comparison."""
    command = [sys.executable, "-m", "dvgen", "compare", "--prior", "pixelsnail,gpt", "--match", "params", "--json"]
    command += ["--data", options.data, "--seeds", str(options.seeds), "--out", str(options.out)]
    command += ["--tokenizer-budget", f"steps:{options.tokenizer_steps}"]
    command += ["--precision", "32-true"]  # the same on every machine
    command += ["--budget", f"steps:{options.steps},seconds:{options.seconds:g}"]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))  # noqa: S603


def kept(results: dict[str, Any]) -> dict[str, Any]:
    """The numbers of the only table, each without its key."""
    (group,) = results["groups"]

    def plain(entry: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        found = {name: entry[name] for name in names}
        values = entry["measurements"].items()
        return found | {"measurements": {name: {k: v for k, v in one.items() if k in SHORT} for name, one in values}}

    rows = [plain(row, ROW) | {"repeats": [plain(one, ("budget_spent",)) for one in row["repeats"]]} for row in group["rows"]]
    named = {kind: [plain(one, ("name",)) for one in group[kind]] for kind in ("references", "baselines")}
    judged = {name: group[name] for name in ("verdicts", "fidelity", "notes")}
    shared = {name: results[name] for name in ("environment", "repeats", "intervals")}
    return {"schema": 1} | shared | {"tokenizer": plain(group["tokenizer"], TOKENIZER), "rows": rows} | named | judged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--tokenizer-steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/prior-budgets"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = compared(options)
    for verdict in results["groups"][0]["verdicts"]:
        print(f"{verdict['budget']}: {' - '.join(verdict['pair'])}: {verdict['difference']:+.4f} nats/code", end=" ")
        print(f"{[round(end, 4) for end in verdict['interval']]}, adjusted p {verdict['p_holm']:.2g}: {verdict['verdict']}")
    if options.json:
        write_json(options.json, kept(results))


if __name__ == "__main__":
    main()
