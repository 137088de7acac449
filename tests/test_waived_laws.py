"""Rule: an author may say that a law does not apply, and why; it is tried all the same, and whoever uses the component is told.

A waiver that names no law, or gives no reason, is a fault.
"""

import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import pytest
from check_mistakes import write_plugin
from click.testing import CliRunner, Result
from component_mutants_prior import MaskedCodesCost
from contract_toys import ToyDecoder, ToyEncoder, ToyPrior

from dvgen.cli.check import check
from dvgen.contracts.autoencoder_subject import AutoencoderSubject
from dvgen.contracts.components import LAWS
from dvgen.contracts.pytest_components import autoencoder_contract, prior_contract
from dvgen.contracts.pytest_quantizer import quantizer_contract
from dvgen.contracts.quantizer import LAWS as QUANTIZER_LAWS
from dvgen.contracts.quantizer_subject import Subject
from dvgen.contracts.waivers import waived_by, waived_in, waivers_of
from dvgen.discovery import discover
from dvgen.errors import ConfigError
from dvgen.interfaces.data import CodeSource, Dataset
from dvgen.interfaces.model import Model
from dvgen.registry import Registry
from dvgen_composed.projected import ProjectedQuantizer
from dvgen_composed.residual import ResidualQuantizer
from dvgen_ema.quantizer import EMAQuantizer

REASON = "masked codes cost what they cost where nobody hides any"


class Costly(MaskedCodesCost):
    """Breaks R2, and says so."""

    waived_laws: ClassVar[Mapping[str, str]] = {"R2 masked": REASON}


class Wandering(EMAQuantizer):
    """A quantizer that waives a law of its own."""

    waived_laws: ClassVar[Mapping[str, str]] = {"P21 round_trips": "its counts start anew", "P23 revival": "they never rest"}


def waiving(base: type[Any], waived: Any) -> Any:
    return type("Waiving", (base,), {"waived_laws": waived})


@pytest.mark.parametrize(
    ("waived", "words"),
    [
        ({"P99 nothing": REASON}, r"has no law 'P99 nothing'"),
        ({"R2": REASON}, r"has no law 'R2' \(did you mean 'R2 masked'\?\)"),
        ({"R2 maskd": REASON}, r"did you mean 'R2 masked'"),
        ({"P23 revival": REASON}, r"has no law 'P23 revival'"),  # of another kind
        ({2: REASON}, r"has no law 2"),
        ({"R2 masked": ""}, r"for the reason '', expected a sentence of 3 words or more"),
        ({"R2 masked": "not applicable"}, r"for the reason 'not applicable'"),
        ({"R2 masked": "one two three\nand a second line"}, r"expected a sentence"),
        ({"R2 masked": None}, r"for the reason None"),
        (["R2 masked"], r"is a list, expected a mapping"),
    ],
)
def test_a_waiver_without_a_law_or_a_reason_is_refused_in_one_line(waived: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        waivers_of(waiving(ToyPrior, waived))
    assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(ConfigError, match=words):
        prior_contract(waiving(ToyPrior, waived))(type("Made", (), {}))


def test_what_every_interface_says_of_itself_is_nothing_and_cannot_be_added_to() -> None:
    for interface in (Model, Dataset, CodeSource):
        assert interface.waived_laws == {}
        assert isinstance(interface.waived_laws, MappingProxyType)
    model = EMAQuantizer(EMAQuantizer.tiny())
    assert copy.deepcopy(model).waived_laws == pickle.loads(pickle.dumps(model)).waived_laws == {}


def test_full_names_tell_laws_of_a_kind_apart() -> None:
    for laws in (QUANTIZER_LAWS, *LAWS.values()):
        assert len({law.full_name for law in laws}) == len(laws)


def test_an_encoder_waives_its_own_laws_and_those_of_all_models_but_none_of_its_decoder() -> None:
    known = {law.full_name for law in LAWS[AutoencoderSubject]}
    own = {name: REASON for name in known if name[0] in "EM"}
    assert len(own) >= 5
    assert {name[0] for name in own} == {"E", "M"}
    assert waivers_of(waiving(ToyEncoder, own)) == own
    with pytest.raises(ConfigError, match="has no law 'D"):
        waivers_of(waiving(ToyEncoder, {next(name for name in known if name.startswith("D")): REASON}))
    with pytest.raises(ConfigError, match="has no law 'E"):
        waivers_of(waiving(ToyDecoder, own))
    made = autoencoder_contract(waiving(ToyEncoder, own), ToyDecoder)(type("Made", (), {}))
    marked = [test for name, test in vars(made).items() if name.startswith("test_") and marks(test)]
    assert len(marked) == len(own)


def marks(test: Any) -> list[Any]:
    return [mark for mark in getattr(test, "pytestmark", []) if mark.name == "xfail"]


def test_only_the_tests_of_waived_laws_may_fail() -> None:
    made = prior_contract(Costly)(type("Made", (), {}))
    found = {name: marks(test) for name, test in vars(made).items() if name.startswith("test_")}
    (mark,) = found.pop("test_r2_masked")
    assert mark.kwargs == {"reason": f"waived: {REASON}", "strict": False}
    assert not any(found.values())


SUITE = """
from contract_toys import ToyPrior
from test_waived_laws import Costly, waiving
from dvgen.contracts.pytest_components import prior_contract

@prior_contract(Costly, examples=1)
class TestCostly: ...

@prior_contract(waiving(ToyPrior, {"R2 masked": "in some configs it does not hold"}), examples=1)
class TestKept: ...
"""


def test_pytest_says_xfail_where_it_is_broken_and_xpass_where_it_is_kept(tmp_path: Path) -> None:
    """And passes either way, where the suite is strict by default too."""
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nxfail_strict = true\n")
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    line = [sys.executable, "-m", "pytest", "-q", "-rxX", "-k", "r2 or r1_", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, env=here, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "2 passed, " in done.stdout
    assert f"TestCostly::test_r2_masked - waived: {REASON}" in done.stdout
    assert "TestKept::test_r2_masked - waived: in some configs it does not hold" in done.stdout


def test_what_is_composed_waives_what_its_parts_waive() -> None:
    def inner() -> Any:
        return Wandering(EMAQuantizer.Config(num_codes=3, dim=2))

    composed = (
        lambda: ResidualQuantizer(ResidualQuantizer.tiny(), inner=inner),
        lambda: ProjectedQuantizer(
            ProjectedQuantizer.tiny(), inner=lambda: ResidualQuantizer(ResidualQuantizer.tiny(), inner=inner)
        ),
    )
    for make in composed:
        assert waived_in(make()) == waived_by(Subject(make)) == dict(Wandering.waived_laws)
    made = quantizer_contract(composed[0])(type("Made", (), {}))
    found = {name for name, test in vars(made).items() if name.startswith("test_") and marks(test)}
    assert found == {"test_p21_round_trips"}  # P23 is not asked of several levels


def test_only_what_waives_is_told_of() -> None:
    assert waived_in(ResidualQuantizer(ResidualQuantizer.tiny(), inner=lambda: EMAQuantizer(EMAQuantizer.tiny()))) == {}


def test_nothing_in_the_box_waives_a_law(registry: Registry) -> None:
    own = [s.component for s in registry.supplied if s.distribution.startswith("dvgen ") and s.component.kind != "recipe"]
    assert len(own) > 40
    assert {f"{c.kind} {c.name}" for c in own if waivers_of(registry.load(c.kind, c.name))} == set()


LINES = "    traits = "


def plugin(folder: Path, package: str, waived: str, more: tuple[str, str] = ("", "")) -> str:
    """The quantizer of the documentation with waivers, as text, and one more change; its folder."""
    write_plugin(folder, package, "quantizer")
    path = next(path for path in folder.rglob("*.py") if LINES in path.read_text())
    text = path.read_text().replace(LINES, f"    waived_laws = {waived}\n{LINES}", 1)
    path.write_text(text.replace(*more) if more[0] else text)
    return str(folder)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(check, arguments, obj=discover)


INT32 = ("rows.codes(codes)", "rows.codes(codes).int()")
"""The mistake that P2 is there to find, and others too."""


def test_check_tells_of_waived_laws_apart_and_its_exit_code_is_that_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvgen.contracts import quantizer

    few = [law for law in QUANTIZER_LAWS if law.full_name in ("P1 shapes", "P2 ranges", "P9 out_of_range")]
    monkeypatch.setattr(quantizer, "LAWS", tuple(few))
    waived = '{"P2 ranges": "codes are small enough for four bytes", "P1 shapes": "a grid may be anything here"}'
    folder = plugin(tmp_path, "dvgen_waiving", waived, INT32)
    done = run(folder)
    assert done.exit_code == 0, done.stdout
    assert "2 rules waived" in done.stdout.splitlines()[0]
    assert "  waived; broken when tried: P2 ranges: codes are small enough for four bytes" in done.stdout
    assert "  waived; kept when tried: P1 shapes: a grid may be anything here" in done.stdout
    assert "| component | rules | kept | broken | waived | not tried |" in done.stdout
    assert "* quantizer round waives P2 (" in done.stdout
    (part,) = json.loads(run(folder, "--json").stdout)["checks"]
    rules = {f"{rule['name']} {rule['check']}": rule for rule in part["rules"]}
    assert part["counts"]["waived"] == 2
    assert part["counts"]["broken"] == 0
    assert rules["P2 ranges"]["state"] == rules["P1 shapes"]["state"] == "waived"
    assert (rules["P2 ranges"]["tried"], rules["P1 shapes"]["tried"]) == ("broken", "kept")
    assert rules["P2 ranges"]["reason"] == "codes are small enough for four bytes"
    assert "int32" in rules["P2 ranges"]["found"]


def test_check_reports_a_waiver_that_is_not_right_and_honours_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dvgen.contracts import quantizer

    monkeypatch.setattr(quantizer, "LAWS", tuple(law for law in QUANTIZER_LAWS if law.full_name == "P2 ranges"))
    waived = '{"P2 ranges": "codes are small enough for four bytes", "P99 nothing": "there is no such law"}'
    done = run(plugin(tmp_path, "dvgen_misnaming", waived, INT32))
    assert done.exit_code == 5
    assert "BROKEN K9: waived laws exist and give a reason" in done.stdout
    assert "its contract has no law 'P99 nothing'" in done.stdout
    assert "where:   " in done.stdout
    assert "usually: A waiver is written as" in done.stdout
    assert "BROKEN P2" in done.stdout
    assert "waived;" not in done.stdout
