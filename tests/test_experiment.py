"""What an experiment file says: every fault at once, nothing lost on the way to JSON, one digest for one experiment."""

import json
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvgen.assembly import check_components
from dvgen.config import canonical
from dvgen.errors import ConfigError
from dvgen.experiment import (
    Choice,
    DataChoice,
    Evaluation,
    Experiment,
    LossChoice,
    PriorChoice,
    Train,
    Training,
    digest,
    experiment_from,
    parse_data,
    read_experiment,
    table_of,
)


def faults(table) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        experiment_from(table)
    return str(caught.value).split("\n")


names = st.from_regex(r"[a-z][a-z0-9-]{0,5}", fullmatch=True)
scalars = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3)
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(names, scalars, max_size=2)
own = {"use", "fields", "location", "weight", "level"}
fields = st.dictionaries(names.filter(lambda name: name not in own), values, max_size=3)
positive = st.floats(1e-6, 1e3)
trainings = st.builds(
    Training,
    budget=st.sampled_from(["steps:1", "steps:1000", "codes:64", "flops:2e15", "seconds:1.5"]),
    batch=st.integers(1, 99),
    lr=positive,
    warmup=st.integers(0, 9),
    betas=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
)


def several(choice):
    return st.lists(choice, min_size=1, max_size=3).map(tuple)


experiments = st.builds(
    Experiment,
    seed=st.integers(0, 2**63),
    labels=st.booleans(),
    data=st.builds(DataChoice, use=names, fields=fields, location=st.none() | st.text(max_size=3))
    | st.builds(DataChoice, use=names, fields=fields, truth=st.just(True)),
    encoder=st.builds(Choice, use=names, fields=fields),
    quantizer=several(st.builds(Choice, use=names, fields=fields)),
    decoder=st.builds(Choice, use=names, fields=fields),
    loss=several(st.builds(LossChoice, use=names, fields=fields, weight=positive)),
    prior=several(st.builds(PriorChoice, use=names, fields=fields, level=st.none() | names)),
    train=st.builds(Train, tokenizer=trainings, prior=trainings),
    evaluate=st.builds(Evaluation, samples=st.integers(2, 99), features=st.lists(names, max_size=2).map(tuple)),
)


@given(experiments)
def test_an_experiment_survives_its_own_table_and_json(experiment):
    table = table_of(experiment)
    assert experiment_from(table) == experiment
    assert json.loads(json.dumps(table)) == table
    assert experiment_from(json.loads(canonical(table))) == experiment


@given(experiments, experiments)
def test_two_experiments_have_one_digest_only_when_they_are_equal(first, second):
    assert digest(first) == digest(experiment_from(json.loads(json.dumps(table_of(first)))))
    assert (digest(first) == digest(second)) == (canonical(first) == canonical(second))


def test_a_digest_is_the_same_in_every_process_and_does_not_depend_on_the_order_of_keys():
    code = (
        "from dvgen.experiment import *; print(digest(experiment_from({'seed': 3, 'encoder': {'b': 1, 'use': 'x', 'a': 2}})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest(experiment_from({"encoder": {"use": "x", "a": 2, "b": 1}, "seed": 3}))
    # sha256 of '{"a":[1,2],"b":null}', computed with coreutils
    assert digest({"b": None, "a": (1, 2)}) == "f25109c4111335e4a32d49373585e7a788ff5b10e70023f7004b170e7f84716a"


def test_the_table_of_an_experiment_leaves_out_what_toml_has_no_word_for():
    table = table_of(Experiment())
    assert table["data"] == {"use": "shapes"}
    assert table["prior"] == [{"use": "gpt"}]


def test_an_empty_file_is_the_default_experiment():
    assert experiment_from({}) == Experiment()


def test_a_component_takes_its_own_fields_beside_its_name():
    experiment = experiment_from(
        {
            "data": {"use": "folder", "location": "images", "size": 32},
            "encoder": {"use": "vqvae", "width": 64},
            "loss": [{"use": "mse"}, {"use": "l1", "weight": 0.5, "scale": 2}],
            "prior": {"use": "gpt", "level": "top", "layers": 2},
        }
    )
    assert experiment.data == DataChoice(use="folder", location="images", fields={"size": 32})
    assert experiment.encoder == Choice(use="vqvae", fields={"width": 64})
    assert experiment.loss == (LossChoice(use="mse"), LossChoice(use="l1", weight=0.5, fields={"scale": 2}))
    assert experiment.prior == (PriorChoice(use="gpt", level="top", fields={"layers": 2}),)


def test_one_table_or_an_array_of_tables_is_one_thing():
    one = experiment_from({"quantizer": {"use": "ema", "num_codes": 4}})
    assert one == experiment_from({"quantizer": [{"use": "ema", "num_codes": 4}]})


def test_a_table_of_training_keeps_what_it_leaves_out():
    """In a file as with --set, [train.prior] changes what it names and no other default of that stage."""
    experiment = experiment_from({"train": {"prior": {"lr": 0.5}}})
    assert experiment.train.prior == attrs.evolve(Experiment().train.prior, lr=0.5)
    assert experiment.train.tokenizer == Experiment().train.tokenizer
    assert experiment == read_experiment(None, ["train.prior.lr=0.5"])


def test_every_fault_of_a_file_is_told_at_once():
    table = {
        "sede": 1,
        "schema": 2,
        "labels": "false",
        "data": "shapes",
        "encoder": {"width": 3, "use": 4},
        "quantizer": [{"num_codes": 3}, 5],
        "loss": {"use": "mse", "weight": -1.0},
        "prior": [],
        "train": {"prior": {"batch": 0, "budget": "steps:0", "betas": [1.0, 0.5]}, "tokenizer": {"leraning": 1}},
        "evaluate": {"samples": 1},
    }
    told = faults(table)
    expected = [
        "sede: unknown key (did you mean 'seed'?); known: adversarial, data, decoder, encoder",
        "schema: 'schema' must be in [1] (got 2)",
        "labels: expected bool, got 'false'",
        "data: expected a table, got 'shapes'",
        "encoder.use: expected str, got 4",
        "quantizer.0.use: missing",
        "quantizer.1: expected a table, got 5",
        "loss.0.weight: 'weight' must be >= 0: -1.0",
        "prior: Length of 'prior' must be >= 1: 0",
        "train.prior.batch: 'batch' must be >= 1: 0",
        "train.prior.budget: expected steps:N, codes:N, flops:N or seconds:S, more than 0",
        "train.prior.betas: 'betas' must be < 1: 1.0",
        "train.tokenizer.leraning: unknown key",
        "evaluate.samples: 'samples' must be >= 2: 1",
    ]
    assert len(told) == len(expected)
    for start in expected:
        assert any(fault.startswith(start) for fault in told), start


@pytest.mark.parametrize(
    "budget", ["steps:1", "steps:1000", "seconds:60", "seconds:0.5", "codes:64", "codes:1.5e6", "flops:2e15", "flops:2.5e+9"]
)
def test_a_budget_is_steps_codes_operations_or_seconds(budget):
    assert experiment_from({"train": {"prior": {"budget": budget}}}).train.prior.budget == budget


@pytest.mark.parametrize(
    "budget",
    ["steps:0", "steps:1.5", "steps:-1", "1000", "minutes:3", "seconds:", "steps:10 ", "steps:1e3", "seconds:1e3", "codes:1.5",
     "codes:0e9", "codes:1.55e1", "flops:1E9", "flops:1e-3", "flops:1e999", "flops:nan", "flops:", "flops", "flops:١", ":5",
     "seconds:0.0", "steps:" + "9" * 400],
)  # fmt: skip
def test_another_budget_is_a_fault_of_one_line(budget):
    told = faults({"train": {"prior": {"budget": budget}}})
    assert len(told) == 1
    assert told[0].startswith("train.prior.budget: expected steps:N, codes:N, flops:N or seconds:S")
    assert told[0].endswith(f"got {budget!r}")


def test_assignments_are_applied_in_order_over_the_file(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('seed = 3\n[prior]\nuse = "pixelsnail"\nlayers = 2\n')
    experiment = read_experiment(path, ["seed=4", "prior.layers=8", "prior.layers=9", "quantizer.num_codes=16", "seed=5"])
    assert experiment.seed == 5
    assert experiment.prior == (PriorChoice(use="pixelsnail", fields={"layers": 9}),)
    assert experiment.quantizer[0].fields == {"num_codes": 16}
    with pytest.raises(ConfigError, match="sed: unknown key"):
        read_experiment(path, ["sed=4"])


def test_without_a_file_the_given_defaults_hold():
    assert read_experiment(None, ["labels=true"], {"seed": 7}) == Experiment(seed=7, labels=True)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("shapes", DataChoice(use="shapes")),
        ("folder:images", DataChoice(use="folder", location="images")),
        ("folder:C:/a b:c", DataChoice(use="folder", location="C:/a b:c")),
        ("truth:potts-8x8", DataChoice(use="potts-8x8", truth=True)),
    ],
)
def test_data_is_a_name_and_a_place(text, choice):
    assert parse_data(text) == choice


@pytest.mark.parametrize("text", ["", ":", "folder:", ":images"])
def test_data_without_a_name_or_a_place_after_the_colon_is_a_fault(text):
    with pytest.raises(ConfigError, match="expected NAME, NAME:LOCATION or truth:SOURCE"):
        parse_data(text)


def test_the_default_experiment_is_made_of_components_that_exist(registry):
    check_components(registry, Experiment())


def test_reading_an_experiment_needs_no_torch(tmp_path: Path):
    (tmp_path / "a.toml").write_text("seed = 3\n")
    code = (
        "import sys, pathlib; from dvgen.experiment import read_experiment;"
        "read_experiment(pathlib.Path(sys.argv[1]), ['seed=4']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.toml")]).returncode == 0


@pytest.mark.parametrize("features", ["rand", "rand, clf"])
def test_features_of_older_files_and_of_a_hurried_hand_are_a_list_all_the_same(features):
    assert experiment_from({"evaluate": {"features": features}}).evaluate.features == tuple(features.split(", "))


def test_a_source_of_codes_has_no_location():
    with pytest.raises(ConfigError, match="a source of codes has no location, got 'here'"):
        experiment_from({"data": {"use": "potts-8x8", "truth": True, "location": "here"}})
