"""The range coder and the code file: what is written is read again, in as few bits as its probability says."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from contract_toys import ToyPrior, ToyTable
from torch import Generator, Tensor

from dvgen.code_model import CodeModel
from dvgen.errors import DataError, IntegrityError, NonFiniteError, ShapeError
from dvgen.interfaces.codes import MASKED, Codes, Level
from dvgen.interfaces.context import ContextShape
from dvgen.verify.codec import HEADER, MAGIC, intervals, read_codes, why_no_codec, write_codes
from dvgen.verify.range_coder import PRECISION, TOTAL, RangeDecoder, RangeEncoder

LEVELS = (Level("top", (2, 2), 5), Level("bottom", (3, 4), 7))


def coded(symbols: list[int], tables: list[np.ndarray]) -> bytes:
    """Symbols as bytes, each by its own table of edges."""
    encoder = RangeEncoder()
    for symbol, edges in zip(symbols, tables, strict=True):
        encoder.encode(int(edges[symbol]), int(edges[symbol + 1] - edges[symbol]))
    return encoder.finish()


def decoded(data: bytes, tables: list[np.ndarray]) -> list[int]:
    """The way back."""
    decoder, found = RangeDecoder(data), []
    for edges in tables:
        found.append(int(np.searchsorted(edges, decoder.target(), side="right")) - 1)
        decoder.advance(int(edges[found[-1]]), int(edges[found[-1] + 1] - edges[found[-1]]))
    return found


def bits(symbols: list[int], tables: list[np.ndarray]) -> float:
    """The information of symbols, by their probabilities."""
    return sum(math.log2(TOTAL / float(edges[s + 1] - edges[s])) for s, edges in zip(symbols, tables, strict=True))


def table(*logits: float) -> np.ndarray:
    return intervals(torch.tensor(logits, dtype=torch.float64))


@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0, 40.0])
@pytest.mark.parametrize("num_codes", [1, 2, 3, 17, 4096])
def test_symbols_of_random_distributions_come_back_in_as_many_bits_as_they_have(num_codes: int, scale: float) -> None:
    """Drawn from the distribution or from none, so that unlikely symbols are met too; 16 bits and 0.1 % are for the end."""
    generator = Generator().manual_seed(num_codes)
    logits = scale * torch.randn(40, num_codes, generator=generator, dtype=torch.float64)
    tables = [intervals(row) for row in logits]
    likely = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).flatten().tolist()
    for symbols in (likely, torch.randint(num_codes, (40,), generator=generator).tolist()):
        data = coded(symbols, tables)
        assert decoded(data, tables) == symbols
        assert 8 * len(data) <= 1.001 * bits(symbols, tables) + 16


@pytest.mark.parametrize("symbol", [0, 1])
def test_a_probability_next_to_one_costs_next_to_nothing_and_the_other_symbol_its_bits(symbol: int) -> None:
    tables = [table(math.log1p(-1e-12), math.log(1e-12))] * 300
    data = coded([symbol] * 300, tables)
    assert decoded(data, tables) == [symbol] * 300
    assert 8 * len(data) <= 1.001 * 300 * symbol * -math.log2(1e-12) + 16
    # a symbol that the model says can never be costs the least probability that there is
    never = [table(0.0, -math.inf)]
    assert decoded(coded([1], never), never) == [1]
    assert bits([1], never) == PRECISION


def test_no_symbols_are_no_bytes() -> None:
    assert coded([], []) == b""
    assert decoded(b"", []) == []


class Exact:
    """Messages as exact fractions of an integer: where the interval begins, and its size, with no carry to be handled."""

    def __init__(self) -> None:
        self.first, self.size, self.whole = 0, 1, 1

    def encode(self, first: int, size: int) -> None:
        self.first = self.first * TOTAL + first * self.size
        self.size, self.whole = self.size * size, self.whole * TOTAL


def test_the_message_lies_in_the_interval_that_exact_arithmetic_finds() -> None:
    """Independent of the decoder. The coder's own intervals lie inside those of exact arithmetic up to what it rounds off
    at the end of a range; symbols that leave powers of two of it round nothing off."""
    generator = Generator().manual_seed(0)
    for _ in range(50):
        encoder, exact = RangeEncoder(), Exact()
        for _ in range(30):
            shift = int(torch.randint(0, 12, (), generator=generator))
            first = int(torch.randint(0, 1 << shift, (), generator=generator))
            for each in (encoder, exact):
                each.encode(first << (PRECISION - shift), 1 << (PRECISION - shift))
        data = encoder.finish()
        number = int.from_bytes(data) * exact.whole
        assert exact.first << (8 * len(data)) <= number < (exact.first + exact.size) << (8 * len(data))


def test_a_carry_runs_through_a_long_chain_of_full_bytes() -> None:
    """Just below a half, hundreds of bytes of 0xFF are written; the last symbol decides whether they all turn over."""
    below_half = [(TOTAL // 2 - 1, 2)] + [((TOTAL - 2) // 2, 2)] * 400
    turned = 0
    for last in ((0, 1), (TOTAL // 2, 1), (TOTAL - 1, 1)):
        encoder = RangeEncoder()
        for first, size in [*below_half, last]:
            encoder.encode(first, size)
        data = encoder.finish()
        turned += data[:5] == b"\x80\0\0\0\0"
        decoder = RangeDecoder(data)
        for first, size in [*below_half, last]:
            assert first <= decoder.target() < first + size
            decoder.advance(first, size)
    assert turned


def test_every_carry_of_many_random_messages_is_handled() -> None:
    generator = Generator().manual_seed(1)
    for length in range(1, 60):
        places = torch.randint(0, TOTAL, (length,), generator=generator).tolist()
        encoder = RangeEncoder()
        for place in places:
            encoder.encode(place, 1)
        decoder = RangeDecoder(encoder.finish())
        for place in places:
            assert decoder.target() == place
            decoder.advance(place, 1)


@pytest.mark.parametrize(("first", "size"), [(-1, 2), (0, 0), (5, -1), (TOTAL, 1), (TOTAL - 1, 2)])
def test_an_interval_that_is_none_is_refused(first: int, size: int) -> None:
    with pytest.raises(ValueError, match="expected an interval"):
        RangeEncoder().encode(first, size)
    with pytest.raises(ValueError, match="expected an interval"):
        RangeDecoder(b"").advance(first, size)


def test_the_decoder_does_not_leave_its_interval() -> None:
    with pytest.raises(ValueError, match="is not in"):
        RangeDecoder(b"\xff").advance(0, 1)


def test_intervals_are_the_probabilities_and_none_is_empty() -> None:
    logits = torch.tensor([0.0, 1.0, -50.0, 2.0], dtype=torch.float64)
    edges = intervals(logits)
    assert edges[0] == 0
    assert edges[-1] == TOTAL
    assert (np.diff(edges) >= 1).all()
    np.testing.assert_allclose(np.diff(edges) / TOTAL, logits.softmax(dim=0).numpy(), atol=4 / TOTAL)
    with pytest.raises(NonFiniteError, match="cannot code"):
        intervals(torch.tensor([0.0, math.nan]))


def model(levels: tuple[Level, ...] = LEVELS, classes: int = 3, kind: type = ToyPrior) -> CodeModel:
    """A code model of toys in evaluation, in float64, its weights so large that codes are far from uniform."""
    torch.manual_seed(0)
    shapes = [ContextShape(levels[:i], classes) for i in range(len(levels))]
    priors = [kind(kind.tiny(), levels=(level,), context=shape) for level, shape in zip(levels, shapes, strict=True)]
    made = CodeModel(priors).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1.5)
    return made


def drawn(n: int) -> tuple[Codes, Tensor]:
    generator = Generator().manual_seed(2)
    codes = tuple(torch.randint(0, level.num_codes, (n, *level.grid), generator=generator) for level in LEVELS)
    return codes, torch.randint(0, 3, (n,), generator=generator)


@pytest.mark.parametrize("n", [0, 1, 9])
def test_codes_of_all_levels_come_back_from_a_file(tmp_path: Path, n: int) -> None:
    codes, labels = drawn(n)
    path = tmp_path / "codes.dvc"
    write_codes(path, model(), codes, labels)
    for found, expected in zip(read_codes(path, model(), labels), codes, strict=True):
        assert found.dtype == torch.int64
        assert torch.equal(found, expected)


def test_a_file_is_as_long_as_its_likelihood(tmp_path: Path) -> None:
    codes, labels = drawn(300)
    path = tmp_path / "codes.dvc"
    write_codes(path, model(), codes, labels)
    with torch.no_grad():
        told = -sum(float(terms.sum()) for terms in model()(codes, labels)) / math.log(2)
    assert told <= 8 * path.stat().st_size <= 1.01 * told
    assert 8 * (path.stat().st_size - HEADER.size) <= told + 16


def test_another_label_reads_other_codes(tmp_path: Path) -> None:
    """Labels are not in the file: they are needed to read it."""
    codes, labels = drawn(9)
    path = tmp_path / "codes.dvc"
    write_codes(path, model(), codes, labels)
    found = read_codes(path, model(), (labels + 1) % 3)
    assert not all(torch.equal(one, other) for one, other in zip(found, codes, strict=True))


DAMAGE = {
    "nothing left": lambda data: b"",
    "half a header": lambda data: data[:7],
    "the last byte lost": lambda data: data[:-1],
    "a byte more": lambda data: data + b"\0",
    "another magic": lambda data: b"dx" + data[2:],
    "another number of maps": lambda data: data[:5] + b"\x07" + data[6:],
    "another checksum": lambda data: data[:8] + bytes([data[8] ^ 1]) + data[9:],
    "a bit turned": lambda data: data[:20] + bytes([data[20] ^ 16]) + data[21:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, damage: object) -> None:
    codes, labels = drawn(9)
    path = tmp_path / "codes.dvc"
    write_codes(path, model(), codes, labels)
    assert path.read_bytes().startswith(MAGIC)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(IntegrityError, match=r"codes\.dvc: (not a code file|cut short or changed)"):
        read_codes(path, model(), labels)


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_codes(tmp_path / "none.dvc", model(), None)


def test_masked_codes_and_priors_without_an_order_are_refused(tmp_path: Path) -> None:
    (top, bottom), labels = drawn(2)
    with pytest.raises(ShapeError, match="masked codes"):
        write_codes(tmp_path / "codes.dvc", model(), (top.index_fill(0, torch.tensor([1]), MASKED), bottom), labels)
    table = model(LEVELS[:1], kind=ToyTable)
    assert "one code after the other" in str(why_no_codec(table))
    with pytest.raises(ShapeError, match="one code after the other"):
        write_codes(tmp_path / "codes.dvc", table, (top,), labels)
    assert why_no_codec(model()) is None
