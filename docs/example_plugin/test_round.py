"""The contract of quantizers, kept by `round`."""

from dvgen_example.quantizer import RoundQuantizer

from dvgen.contracts.pytest_quantizer import quantizer_contract


@quantizer_contract(lambda: RoundQuantizer(RoundQuantizer.tiny()))
class TestRoundQuantizer:
    """One test a property."""
