"""The command line: what is wrong is said in one clear line with its exit code, and `--json` is one document."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from toy_runs import TINY_GPT, dvgen, settings

USAGE, MISSING, INTEGRITY, PLUGIN = 2, 3, 4, 5


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert dvgen("train", "--out", str(folder), *settings(*TINY_GPT)) == 0
    return folder


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, so that whatever a command leaves is seen."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVGEN_DATA", str(folder / "data"))
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code of a command at fault and its one line on standard error; nothing on standard output."""
    code = dvgen(*arguments)
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1, err
    assert lines[0].startswith("dvgen: ")
    assert "internal error" not in lines[0]
    assert "Traceback" not in err
    return code, lines[0]


BAD = [
    (["train", "--prior", "pixelsnial"], USAGE, ["pixelsnial", "did you mean 'pixelsnail'?"]),
    (["train", "--quantizer", "emma"], USAGE, ["no quantizer named 'emma'", "did you mean 'ema'?", "gumbel"]),
    (["train", "--discriminator", "pathcgan"], USAGE, ["no discriminator named 'pathcgan'", "did you mean 'patchgan'?"]),
    (["train", "--discriminator", "none,patchgan"], USAGE, ["--discriminator", "one at a time here"]),
    (["train", "--discriminator", "none", "--set", "adversarial.weight=1"], USAGE, ["adversarial.weight=1"]),
    (["compare", "--discriminator", "patchgan,none,patchgan"], USAGE, ["--discriminator: 'patchgan' is listed twice"]),
    (["compare", "--prior", "gpt,gtp"], USAGE, ["no prior named 'gtp'", "did you mean 'gpt'?"]),
    (["compare", "--prior", "gpt,gpt"], USAGE, ["--prior: 'gpt' is listed twice"]),
    (["compare", "--prior", "gpt", "diff", "a", "b"], USAGE, ["--prior before 'diff'"]),
    (["compare", "--json", "diff", "a", "b"], USAGE, ["--json before 'diff'"]),
    (["compare", "--data", "shapes", "--set", "data.shapes=1", "--metric", "fd-clf"], USAGE, ["'clf'", "only one"]),
    (["train", "--data", "shapes", "--set", "data.shapes=1", "--set", "evaluate.features=clf"], USAGE, ["'clf'", "only one"]),
    (["compare", "--prior", "gpt,"], USAGE, ["--prior 'gpt,'", "an empty name"]),
    (["train", "--prior", "gpt,pixelsnail"], USAGE, ["one at a time here", "dvgen compare"]),
    (["train", "--set", "prior.layrs=2"], USAGE, ["prior.layrs", "unknown key", "did you mean 'layers'?"]),
    (["train", "--set", "prior.layers=two"], USAGE, ["prior.layers", "expected int", "'two'"]),
    (["train", "--set", "prior.layers=0"], USAGE, ["prior.layers", "0"]),
    (["train", "--set", "prior.layers"], USAGE, ["expected PATH=VALUE"]),
    (["train", "--set", "prior.layers=2.5"], USAGE, ["prior.layers", "expected int, got 2.5"]),
    (["train", "--budget", "lots"], USAGE, ["train.prior.budget", "lots"]),
    (["train", "--seed", "-1"], USAGE, ["seed"]),
    (["train", "--layers", "8"], USAGE, ["--layers"]),
    (["trian"], USAGE, ["trian"]),
    (["train", "--config", "none.toml"], USAGE, ["none.toml", "give the path"]),
    (["train", "--data", "shapes:here"], USAGE, ["shapes takes no location"]),
    (["train", "--data", "shapes", "--set", "encoder.downsample=64"], USAGE, ["encoder.downsample", "32x32"]),
    (["train", "--set", "train.prior.micro_batches=3"], USAGE, ["batch 32", "3 micro-batches"]),
    (["train", "--prior", "top=gpt"], USAGE, ["one prior for each of the levels codes", "top"]),
    (["train", "--quantizer", "ema+ema"], USAGE, ["quantizer", "2"]),
    (["train", "--accelerator", "tpu"], USAGE, ["tpu"]),
    (["train", "--data", "folder:missing"], MISSING, ["missing"]),
    (["train", "--data", "folder:nothing-in-it"], MISSING, ["nothing-in-it"]),
    (["train", "--data", "mnist"], MISSING, ["mnist"]),
    (["train", "--resume", "nowhere"], MISSING, ["nowhere", "no run here"]),
    (["train", "--resume", "nothing-in-it"], MISSING, ["no run here"]),
    (["train", "--resume", "nowhere", "--seed", "3"], USAGE, ["--resume with --seed"]),
    (["train", "--resume", "nowhere", "--set", "seed=3"], USAGE, ["--resume with --set"]),
    (["train", "--resume", "nowhere", "--out", "there"], USAGE, ["--resume with --out"]),
    (["sample", "nowhere"], MISSING, ["nowhere", "no run here"]),
    (["sample", "nothing-in-it"], MISSING, ["no run here"]),
    (["evaluate", "nowhere"], MISSING, ["no run here"]),
    (["-p", "no:nonsense", "plugins"], USAGE, ["no:nonsense"]),
    (["-p", "no:gtp", "plugins"], USAGE, ["no:gtp", "did you mean 'gpt'?"]),
    (["-p", "no:gpt", "train", "--prior", "gpt"], USAGE, ["no prior named 'gpt'"]),
    (["-p", "no_such_module", "train", "--prior", "gpt"], PLUGIN, ["-p no_such_module", "cannot be loaded"]),
    (
        ["-p", "broken_component", "train", "--prior", "broken"],
        PLUGIN,
        ["prior 'broken'", "broken_component", "no_such_module"],
    ),
    (["data", "nonsense"], USAGE, ["no dataset named 'nonsense'"]),
    (["data", "folder:"], USAGE, ["expected NAME, NAME:LOCATION or truth:SOURCE"]),
]


@pytest.mark.parametrize(("arguments", "code", "told"), BAD, ids=[" ".join(arguments) for arguments, _, _ in BAD])
def test_what_is_wrong_is_one_line_with_its_exit_code_and_nothing_is_left(
    empty: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, told: list[str]
) -> None:
    (empty / "nothing-in-it").mkdir()
    found, line = refused(capsys, *arguments)
    assert found == code
    for word in told:
        assert word in line
    assert [path.name for path in empty.rglob("*")] == ["nothing-in-it"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[prior]\nuse = 'gpt'\nlayrs = 2\n", ["prior.layrs", "did you mean 'layers'?"]),
        ("[prior\n", ["experiment.toml", "not TOML"]),
        ("seed = 'one'\n", ["seed", "expected int, got 'one'"]),
        ("quantiser = {use = 'ema'}\n", ["quantiser", "did you mean 'quantizer'?"]),
        ("schema = 2\n", ["schema"]),
        ("prior = 'gpt'\n", ["prior"]),
        ("[train.prior]\nlr = -1\n", ["train.prior.lr"]),
        ('labels = "false"\n', ["labels", "expected bool"]),
    ],
)
def test_a_config_file_at_fault_is_one_line(
    empty: Path, capsys: pytest.CaptureFixture[str], text: str, told: list[str]
) -> None:
    (empty / "experiment.toml").write_text(text)
    code, line = refused(capsys, "train", "--config", "experiment.toml")
    assert code == USAGE
    for word in told:
        assert word in line
    assert [path.name for path in empty.iterdir()] == ["experiment.toml"]


def test_several_faults_are_several_lines(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = dvgen("train", "--set", "prior.layrs=2", "--set", "quantizer.num_code=2", "--set", "train.prior.lr=0")
    err = capsys.readouterr().err
    assert code == USAGE
    assert all(line.startswith("dvgen: ") for line in err.splitlines())
    assert list(empty.iterdir()) == []


def test_a_run_is_never_overwritten(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = refused(capsys, "train", "--out", str(finished), *settings(*TINY_GPT))
    assert code == USAGE
    assert "a run is already there" in line
    assert f"--resume {finished}" in line


@pytest.mark.parametrize("arguments", [["--label", "square"], ["--guidance", "2"]])
def test_labels_mean_nothing_to_a_run_without_them(
    finished: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    code, line = refused(capsys, "sample", str(finished), "-n", "2", *arguments)
    assert code == USAGE
    assert "trained without labels" in line


@pytest.mark.parametrize("arguments", [["-n", "0"], ["--temperature", "0"], ["--top-p", "1.5"], ["--top-k", "0"]])
def test_sampling_out_of_range_is_refused(finished: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, line = refused(capsys, "sample", str(finished), *arguments)
    assert code == USAGE
    assert arguments[0].strip("-").replace("-", "_") in line.replace("-", "_")


@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize("part", ["checkpoints", "tokenizer/checkpoints"])
@pytest.mark.parametrize("command", [["train", "--resume"], ["sample"], ["evaluate"]])
def test_a_truncated_only_checkpoint_is_told_and_not_used(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], part: str
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    weights = next((folder / part).glob("step-*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    assert dvgen(*command, str(folder)) == INTEGRITY
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert "damaged" in err.splitlines()[-1]


@pytest.mark.parametrize("file", ["config.json", "manifest.json"])
def test_a_damaged_run_folder_is_told(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    (folder / file).write_text("{")
    code, line = refused(capsys, "sample", str(folder), "-n", "2")
    assert code == INTEGRITY
    assert file in line


def test_faults_of_the_file_and_of_its_components_are_told_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "both.toml"
    path.write_text('[train.prior]\nbugdet = "steps:5"\n[prior]\nuse = "gpt"\nlayers = 3.5\n[quantizer]\nuse = "emma"\n')
    sets = ["train.prior.bugdet=1", "prior.layers=3.5", "quantizer.use=emma"]
    for arguments in (["--config", str(path)], [word for pair in sets for word in ("--set", pair)]):
        assert dvgen("train", *arguments) == USAGE
        lines = capsys.readouterr().err.splitlines()
        for fault in ("train.prior.bugdet: unknown key", "prior.layers: expected int, got 3.5", "did you mean 'ema'?"):
            assert any(fault in line for line in lines)
        assert len(lines) == 3


def test_weights_of_another_model_are_refused(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    config = json.loads((folder / "config.json").read_text())
    config["quantizer"][0]["num_codes"] = 16
    (folder / "config.json").write_text(json.dumps(config))
    for command in (["sample"], ["train", "--resume"]):
        code, line = refused(capsys, *command, str(folder))
        assert code == INTEGRITY
        assert "trained under another config" in line


def test_a_picture_that_cannot_be_written_is_told(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (tmp_path, tmp_path / "grid.jpg"):
        code, line = refused(capsys, "sample", str(finished), "-n", "1", "-o", str(wrong))
        assert code == USAGE
        assert ".png" in line
    (tmp_path / "file").touch()
    code, line = refused(capsys, "sample", str(finished), "-n", "1", "-o", str(tmp_path / "file" / "grid.png"))
    assert code == MISSING
    assert "cannot be written" in line


def test_codes_of_another_tokenizer_are_refused(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The codes carry the tokenizer's fingerprint: the cache of another run does not fit."""
    other, folder = tmp_path / "other", Path(shutil.copytree(finished, tmp_path / "run"))
    assert dvgen("train", "--out", str(other), "--seed", "1", *settings(*TINY_GPT)) == 0
    shutil.rmtree(folder / "tokenizer" / "codes")
    shutil.copytree(other / "tokenizer" / "codes", folder / "tokenizer" / "codes")
    capsys.readouterr()
    code, _ = refused(capsys, "sample", str(folder), "-n", "2")
    assert code == INTEGRITY


def test_resuming_a_finished_run_changes_no_checkpoint(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("step-*/*")}
    assert dvgen("train", "--resume", str(folder), "--accelerator", "cpu") == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("step-*/*")} == before


@pytest.mark.parametrize("left", ["run.json", "config.json"])
def test_a_run_killed_as_it_began_can_be_gone_on_with(tmp_path: Path, left: str) -> None:
    """Killed after its status was written, it begins anew; after its config, it resumes."""
    folder = tmp_path / "run"
    arguments = ["train", "--out", str(folder), *settings(*TINY_GPT)]
    assert dvgen(*arguments) == 0
    kept = ["run.json", "config.json"][: 1 + (left == "config.json")]
    for path in list(folder.iterdir()):
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = arguments if left == "run.json" else ["train", "--resume", str(folder), "--accelerator", "cpu"]
    assert dvgen(*again) == 0
    assert dvgen("sample", str(folder), "-n", "1", "--accelerator", "cpu") == 0


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The one JSON document that a command writes."""
    capsys.readouterr()
    assert dvgen(*arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_json_is_one_document_on_standard_output(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = document(capsys, "plugins", "--json")
    assert {"kind": "prior", "name": "gpt"}.items() <= next(c for c in listed["components"] if c["name"] == "gpt").items()
    assert listed["failures"] == []
    assert document(capsys, "data", "shapes", "--json")["data"][0]["fault"] is None
    trained = document(capsys, "train", "--json", "--out", str(tmp_path / "run"), *settings(*TINY_GPT))
    assert trained["folder"] == str(tmp_path / "run")
    drawn = document(capsys, "sample", str(finished), "-n", "3", "-o", str(tmp_path / "s.png"), "--json")
    assert (drawn["samples"], drawn["file"]) == (3, str(tmp_path / "s.png"))
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    assert document(capsys, "evaluate", str(tmp_path / "run"), "--json")["groups"][0]["rows"][0]["prior"] == "gpt"
    compared = document(capsys, "compare", "--json", "--out", str(tmp_path / "c"), "--prior", "gpt", *settings(*TINY_GPT))
    assert compared == json.loads((tmp_path / "c" / "results.json").read_text())


def test_samples_are_a_function_of_their_seed(finished: Path, tmp_path: Path) -> None:
    places = [tmp_path / f"{name}.png" for name in "abc"]
    for place, seed in zip(places, "001", strict=True):
        assert dvgen("sample", str(finished), "-n", "4", "--seed", seed, "-o", str(place)) == 0
    one, same, other = (place.read_bytes() for place in places)
    assert one == same
    assert one != other


def test_a_run_with_labels_takes_them_by_name_and_by_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And it is evaluated with a number of samples that is no multiple of a batch."""
    folder = tmp_path / "run"
    assert dvgen("train", "--labels", "--out", str(folder), *settings(*TINY_GPT, "evaluate.samples=7")) == 0
    for name, label in (("name", "disc"), ("number", "1")):
        out = str(tmp_path / f"{name}.png")
        assert dvgen("sample", str(folder), "-n", "3", "--label", label, "--guidance", "2", "-o", out) == 0
    assert (tmp_path / "name.png").read_bytes() == (tmp_path / "number.png").read_bytes()
    assert dvgen("evaluate", str(folder)) == 0
    capsys.readouterr()
    for label in ("heart", "2", "-1", "²"):
        code, line = refused(capsys, "sample", str(folder), "-n", "3", "--label", label)
        assert code == USAGE
        assert "no such class; known: square, disc" in line


@pytest.mark.parametrize("command", ["train", "compare", "evaluate", "sample", "plugins", "data"])
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert dvgen(command, "--help") == 0
    assert "--json" in capsys.readouterr().out
