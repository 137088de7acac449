"""Comparisons with all their files, and reading the pages that are made of them."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from toy_results import document, drawn, group, row

from dvgen.data.token_cache import TokenBatch, TokenIdentity, write_tokens
from dvgen.interfaces.codes import Level

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Every element with its attributes, the text, cells with what they tell on hovering; and whether all tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        assert self.open.pop() == tag

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if self.open and self.open[-1] != "style" else ""

    def values(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]


def verdict(one: str, other: str, difference: float, said: str, **more: Any) -> dict[str, Any]:
    ends = [difference - 0.01, difference + 0.01]
    known = {"pair": [one, other], "budget": "steps:800", "difference": difference, "interval": ends, "unit": "nats/code"}
    return known | {"p": 0.001, "p_holm": 0.002, "better_on_image": 0.6, "verdict": said} | more


def comparison(*priors: str, seeds: int = 2) -> tuple[dict[str, Any], dict[str, Any]]:
    """A document of these priors, each 0.1 nats/code worse than the one before, and their nats."""
    nats = {prior: drawn(i, seeds=seeds, mean=3.0 + 0.1 * i) for i, prior in enumerate(priors)}
    whole = group([row(prior, table) for prior, table in nats.items()])
    pairs = [(a, b) for i, a in enumerate(priors) for b in priors[i + 1 :]]
    whole["verdicts"] = [verdict(a, b, -0.1, f"{a} is better") for a, b in pairs]
    return document([whole]), nats


def fill(folder: Path, results: dict[str, Any]) -> None:
    """Everything that a comparison may leave beside its results: pictures, codes, samples, NLL by position."""
    draw = np.random.default_rng(0)
    codes = torch.from_numpy(draw.integers(0, 64, (6, 4, 4)))
    for one in results["groups"]:
        level = Level("codes", (4, 4), 64)
        place = folder / one["tokenizer"]["folder"]
        identity = TokenIdentity(tokenizer="t", data="d", levels=(level,), num_classes=1, splits={"test": 6})
        write_tokens(place / "codes", {"test": [TokenBatch((codes,), torch.zeros(6).long(), torch.arange(6))]}, identity)
        noise(place / "samples" / "reconstructions.png", 20, draw)
        for repeat in (repeat for one_row in one["rows"] for repeat in one_row["repeats"]):
            own = folder / repeat["folder"]
            np.savez(own / "assessment" / "per_position.npz", level_0=draw.random((4, 4)))
            np.savez(own / "assessment" / "samples.npz", level_0=codes.numpy())
            for name in ("samples", "neighbours"):
                noise(own / "samples" / f"{name}.png", 20, draw)


def noise(path: Path, side: int, draw: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)
