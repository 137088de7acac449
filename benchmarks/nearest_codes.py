"""Wrong nearest codes, in per cent, over ten stress cases: dvgen's search, the usual ways, and vector-quantize-pytorch.

    pip install -e '.[bench]'
    python benchmarks/nearest_codes.py

A code is right when no other is nearer in float64 by plain differences. dvgen compiled: what `torch.compile` runs, four
candidates compared in float64; beside it the share that is certified.
"""

from importlib.metadata import version

import torch
from torch import Tensor

from dvgen.blocks.nearest import nearest
from dvgen.contracts.search import SearchCase, stress_cases, wrong_codes

OTHER = "vector-quantize-pytorch"


def products(case: SearchCase) -> Tensor:
    """The largest z.e - |e|^2/2 in float32."""
    return (case.z @ case.codebook.T - case.codebook.square().sum(dim=1) / 2).argmax(dim=1)


def distances(case: SearchCase) -> Tensor:
    """torch.cdist in float32, as it comes."""
    return torch.cdist(case.z, case.codebook).argmin(dim=1)


@torch.no_grad()
def theirs(case: SearchCase) -> Tensor:
    """The codes of the other library's VectorQuantize in evaluation."""
    from vector_quantize_pytorch import VectorQuantize

    quantizer = VectorQuantize(dim=case.z.shape[1], codebook_size=len(case.codebook)).eval()
    quantizer.codebook = case.codebook
    return quantizer(case.z.unsqueeze(0))[1].squeeze(0)


def main() -> None:
    """Print the table."""
    print(f"wrong codes in %; torch {torch.__version__}, {OTHER} {version(OTHER)}")
    print(f"{'case':26s} {'dvgen':>7s} {'compiled':>9s} {'certified':>10s} {'z.e-e2/2':>9s} {'cdist':>7s} {'theirs':>7s}")
    compiled = torch.compile(nearest, fullgraph=True, backend="aot_eager")
    for name, case in stress_cases().items():
        found, fast = nearest(case.z, case.codebook), compiled(case.z, case.codebook)
        codes = (found.codes, fast.codes, products(case), distances(case), theirs(case))
        wrong = [100 * wrong_codes(code, case) / len(case.z) for code in codes]
        print(
            f"{name:26s} {wrong[0]:7.2f} {wrong[1]:9.2f} {100 * float(fast.certified.float().mean()):9.1f}% "
            f"{wrong[2]:9.2f} {wrong[3]:7.2f} {wrong[4]:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
