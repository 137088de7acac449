"""Plugins with one mistake each, of those that authors make: in the quantizer of the documentation, and in the toy prior."""

from pathlib import Path
from typing import NamedTuple

from doc_pages import ROOT

EXAMPLE = ROOT / "docs" / "example_plugin"
TOYS = Path(__file__).with_name("contract_toys.py")


class Mistake(NamedTuple):
    """What is written wrongly: the text that is replaced and what by, in a file of the quantizer's or the prior's plugin.

    law: that has to see it. words: that have to stand in what is found or in the usual cause. place: what a line that is
    shown holds.
    """

    kind: str
    right: str
    wrong: str
    law: str
    words: tuple[str, ...]
    place: str
    file: str = "component.py"


RETURNED = "return Quantized(rows.features(straight_through(squashed, vectors)), (rows.codes(codes),), {}, stats, {})"

MISTAKES = {
    "shape-order": Mistake(
        "quantizer",
        RETURNED,
        RETURNED.replace("rows.features(straight_through(squashed, vectors))", "rows.features(vectors).movedim(1, -1)"),
        "P1 shapes",
        ("shape",),
        "return Quantized(",
    ),
    "int32-codes": Mistake(
        "quantizer", RETURNED, RETURNED.replace("rows.codes(codes)", "rows.codes(codes).int()"), "P2 ranges",
        ("int32", "int64"), "return Quantized(",
    ),
    "detached-gradient": Mistake(
        "quantizer", RETURNED, RETURNED.replace("straight_through(squashed, vectors)", "vectors"), "P13 gradient_in_both_modes",
        ("gradient",), "return Quantized(",
    ),
    "state-in-evaluation": Mistake(
        "quantizer", "        squashed = rows.values.tanh()\n        codes", "        squashed = rows.values.tanh()\n"
        "        self.vectors.add_(1e-3)\n        codes", "P20 pure", ("vectors",), "return Quantized(",
    ),
    "nondeterminism": Mistake(
        "quantizer", "squashed = rows.values.tanh()", "squashed = (rows.values + torch.rand_like(rows.values)).tanh()",
        "P5 encode_gives_codes", ("encode", "differ"), "return (rows.codes(",
    ),
    "dtype": Mistake(
        "quantizer", RETURNED, RETURNED.replace("vectors))", "vectors)).double()"), "P1 shapes",
        ("float64",), "return Quantized(",
    ),
    "not-causal": Mistake(
        "prior", "before = F.pad(shown, (0, 0, 1, -1)).cumsum(dim=1)", "before = shown.cumsum(dim=1)",
        "R7 causal_by_edit", ("code",), "return self._head(before",
    ),
    "cache-off-by-one": Mistake(
        "prior", "self.places[place - 1]", "self.places[place]", "R9 steps_give_logits", ("step",), "return self._head(state",
    ),
    "no-bounds": Mistake(
        "quantizer", "steps: int = field(default=8, validator=ge(2))", "steps: int = 8", "K4 values_are_bounded",
        ("steps", "bound"), "steps: int = 8",
    ),
    "torch-in-init": Mistake(
        "quantizer", "from dvgen import", "import torch\nfrom dvgen import", "K1 listing_without_torch",
        ("imports torch",), "import torch", "__init__.py",
    ),
}  # fmt: skip
"""The ten mistakes, by name."""


def sound_files(kind: str, package: str) -> dict[str, str]:
    """A plugin without a mistake: its files by path."""
    if kind == "quantizer":
        listing = (EXAMPLE / "dvgen_example" / "__init__.py").read_text(encoding="utf-8")
        listing = listing.replace("dvgen_example.quantizer", f"{package}.component")
        component = (EXAMPLE / "dvgen_example" / "quantizer.py").read_text(encoding="utf-8")
    else:
        component = TOYS.read_text(encoding="utf-8")  # all that it imports is public
        listing = (
            "from dvgen import Component, hookimpl\n\n\n@hookimpl\ndef dvgen_components():\n"
            f'    return [Component("prior", "sum", "{package}.component:ToyPrior", "sums of codes")]\n'
        )
    project = f'[project]\nname = "{package}"\nversion = "1"\n[project.entry-points.dvgen]\nx = "{package}"\n'
    return {"pyproject.toml": project, f"{package}/__init__.py": listing, f"{package}/component.py": component}


def write_plugin(folder: Path, package: str, kind: str, mistake: Mistake | None = None) -> Path:
    """A plugin's folder, with a mistake or with none."""
    files = sound_files(kind, package)
    if mistake is not None:
        path = f"{package}/{mistake.file}"
        assert mistake.right in files[path], "the text that the mistake replaces is not there"
        files[path] = files[path].replace(mistake.right, mistake.wrong)
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder
