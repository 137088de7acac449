"""`--set` changes one place of a table, or says why it cannot; and how a config file is read."""

from pathlib import Path

import pytest

from dvgen.config import override, read_toml
from dvgen.errors import ConfigError


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("seed=3", ["seed"], 3),
        ("seed = 3", ["seed"], 3),
        ("train . lr = 1e-3", ["train", "lr"], 1e-3),
        ("new.table.key=true", ["new", "table", "key"], True),
        ("train.betas=[0.5, 0.6]", ["train", "betas"], [0.5, 0.6]),
        ("train.betas.1=0.5", ["train", "betas", 1], 0.5),
        ("prior.layers=8", ["prior", 0, "layers"], 8),
        ("prior.0.layers=8", ["prior", 0, "layers"], 8),
        ("prior.inner.width=2", ["prior", 0, "inner", "width"], 2),
        ("loss.1.weight=0.5", ["loss", 1, "weight"], 0.5),
        ('loss.1={use = "l1"}', ["loss", 1], {"use": "l1"}),
        ("prior.use=pixelsnail", ["prior", 0, "use"], "pixelsnail"),
        ('prior.use="gpt"', ["prior", 0, "use"], "gpt"),
        ("data.location=/a b/c=d", ["data", "location"], "/a b/c=d"),
        ("data.location=", ["data", "location"], ""),
        ('data.location="12"', ["data", "location"], "12"),
        ("train.on=True", ["train", "on"], "True"),
        ("seed=1\nlabels=true", ["seed"], "1\nlabels=true"),
    ],
)
def test_set_changes_one_place_and_no_other(assignment, path, value):
    def table():
        return {
            "seed": 0,
            "data": {"use": "shapes"},
            "prior": [{"use": "gpt"}],
            "loss": [{"use": "mse"}, {"use": "l1"}],
            "train": {"lr": 0.1, "betas": [0.9, 0.99]},
        }

    changed = table()
    override(changed, assignment)
    place = changed
    for key in path:
        place = place[key]
    assert place == value
    assert type(place) is type(value)
    expected = table()
    holder = expected
    for key in path[:-1]:
        holder = holder.setdefault(key, {}) if isinstance(holder, dict) else holder[key]
    holder[path[-1]] = value
    assert changed == expected


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("seed", "expected PATH=VALUE, such as prior.layers=8"),
        ("=3", "expected PATH=VALUE, such as prior.layers=8"),
        ("a..b=3", "expected PATH=VALUE, such as prior.layers=8"),
        (".a=3", "expected PATH=VALUE, such as prior.layers=8"),
        ("seed.x=1", "'x' follows 0, which is not a table"),
        ("seed.x.y=1", "'x' follows 0, which is not a table"),
        ("data.use.x=1", "'x' follows 'shapes', which is not a table"),
        ("loss.weight=1", "'weight' follows a list of 2; put an index before it"),
        ("loss.2.weight=1", "the list has 2 entries, counted from 0; there is no 2"),
        ("loss.2=1", "the list has 2 entries, counted from 0; there is no 2"),
        ("loss.²=1", "'²' follows a list of 2; put an index before it"),
        ("none.x=1", "'x' follows a list of 0; put an index before it"),
    ],
)
def test_a_set_that_leads_nowhere_says_why(assignment, reason):
    table = {"seed": 0, "data": {"use": "shapes"}, "loss": [{"use": "mse"}, {"use": "l1"}], "none": []}
    with pytest.raises(ConfigError) as caught:
        override(table, assignment)
    assert str(caught.value) == f"--set {assignment!r}: {reason}"


def test_a_toml_file_is_read(tmp_path):
    (tmp_path / "a.toml").write_text('seed = 3\n[prior]\nuse = "gpt"\n')
    assert read_toml(tmp_path / "a.toml") == {"seed": 3, "prior": {"use": "gpt"}}


def test_a_file_that_cannot_be_read_is_a_fault_with_its_path(tmp_path):
    def fault(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            read_toml(path)
        assert str(path) in str(caught.value)
        return str(caught.value)

    assert "no config file" in fault(tmp_path / "nowhere.toml")
    assert "cannot be read: Is a directory" in fault(tmp_path)
    (tmp_path / "bad.toml").write_text("seed = 3\nseed = 4\n")
    assert "at line 2" in fault(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert "not TOML" in fault(tmp_path / "binary.toml")
