"""Properties P12, P13, P15 and P16: the gradient that vectors have with respect to features.

Shapes: b batch, d width, *grid positions, n features.
"""

import torch
from torch import Tensor

from dvgen.blocks.estimators import MAX_GAIN
from dvgen.contracts.law import law, require, require_close, require_equal
from dvgen.contracts.quantizer_rounding import upstream_for, wide_features
from dvgen.contracts.quantizer_subject import SAMPLES, Example, Subject, as_map, as_rows, objective, outputs, run, twin_of
from dvgen.contracts.quantizer_values import trained
from dvgen.interfaces.quantizer import Quantized, Quantizer

OVERWRITTEN = "modified by an inplace operation"
"""What torch says when a tensor that backward needs was overwritten."""


@law(
    "P12",
    "straight through: the gradient of the features is that of the vectors, bit for bit, and zero where masked",
    applies=lambda q: q.traits.estimator == "straight-through",
)
def straight_through(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z, mask = example.features(quantizer.dim), example.valid()
    upstream = upstream_for(z)
    expected = upstream if mask is None else torch.where(mask.unsqueeze(1), upstream, 0)
    require_equal(pulled(quantizer, example.covered(z), mask, upstream), expected, "gradient of the features")


@law(
    "P12",
    "the gradient of a position is finite, linear in that of its own vector, and depends on no other; zero where masked",
    applies=lambda q: q.traits.estimator != "straight-through",
)
def linear_by_position(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z, mask = example.covered(wide_features(quantizer, example)), example.valid()
    one, two = upstream_for(z), upstream_for(z, 1)
    kept = (upstream_for(z[:, :1], 2) > 0).expand(z.shape)
    first, second = pulled(quantizer, z, mask, one), pulled(quantizer, z, mask, two)
    require(first.isfinite().all(), "gradient of the features: not finite")
    require(mask is None or (as_rows(first)[~mask.reshape(-1)] == 0).all(), "gradient where masked: must be zero")
    both = pulled(quantizer, z, mask, one + two)
    # a softmax that is certain has a gradient made of rounding: relative to what a feature less certain gets
    usual = as_map(example.rows(SAMPLES, quantizer.dim, salt=3))
    some = pulled(quantizer, usual, None, upstream_for(usual))
    largest = max(float(part.abs().max()) for part in (first, second, some) if part.numel())
    require_close(both, first + second, "gradient of a sum", absolute=1e-4 * largest)
    some = pulled(quantizer, z, mask, torch.where(kept, one, 0))
    require((some[~kept] == 0).all(), "gradient of the features: depends on the vectors of other positions")
    require_close(some[kept], first[kept], "gradient of a position alone", absolute=1e-4 * largest)


@law(
    "P12-",
    "a quantizer that does not declare straight-through does not pass gradients as they are",
    applies=lambda q: q.traits.estimator != "straight-through",
    once=True,
)
def not_straight_through(subject: Subject, example: Example) -> None:
    quantizer = trained(subject, example.seed).train(example.train)
    z = example.features(quantizer.dim)
    upstream = upstream_for(z)
    off = float((pulled(quantizer, z, None, upstream) - upstream).abs().max())
    require(off > 1e-3, "the gradient of the features is that of the vectors: declare straight-through")


@law("P13", "there is a gradient whenever the features ask for one, in evaluation as in training, and none when nothing does")
def gradient_in_both_modes(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example).requires_grad_(False)
    z, mask = example.covered(wide_features(quantizer, example)), example.valid()
    for name, value in outputs(run(quantizer, z, mask)).items():
        require(not value.requires_grad, f"{name} requires a gradient, though neither features nor parameters do")
    found = {}
    for training in (True, False):
        leaf = z.clone().requires_grad_()
        out = run(quantizer.train(training), leaf, mask)
        require(out.vectors.requires_grad, f"training={training}: vectors have no gradient")
        found[training] = {"vectors": _gradient(out.vectors, leaf)} | {
            f"loss {name}": _gradient(value, leaf) for name, value in out.losses.items()
        }
    require(found[True].keys() == found[False].keys(), "training and evaluation have different losses")
    for name, gradient in found[True].items() if quantizer.deterministic else ():
        require_close(found[False][name], gradient, f"gradient of {name} in evaluation", relative=1e-5)


@law(
    "P15",
    "an update between forward and backward changes no gradient (torch may refuse, but not silently)",
    applies=lambda q: type(q).update is not Quantizer.update,
)
def gradients_of_the_forward_pass(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z, mask = example.covered(wide_features(quantizer, example)), example.valid()
    twin = twin_of(quantizer)
    # another batch, so that the codebook moves even when all of this one is masked
    other = run(twin_of(quantizer), wide_features(quantizer, example) * 2 + 1).pending
    leaf, leaf_of_twin = z.clone().requires_grad_(), z.clone().requires_grad_()
    out, expected = run(quantizer, leaf, mask), run(twin, leaf_of_twin, mask)
    quantizer.update(other)
    quantizer.update(out.pending)
    try:
        found = _all_gradients(quantizer, out, leaf)
    except RuntimeError as error:
        require(OVERWRITTEN in str(error), f"backward after an update: {error}")
        return
    for name, gradient in _all_gradients(twin, expected, leaf_of_twin).items():
        require_equal(found[name], gradient, f"gradient of {name} after an update")


@law(
    "P16",
    "rotation trick: the value is the code's vector, the gradient is turned back and scaled",
    applies=lambda q: _rotates(q),
)
def rotation_trick(subject: Subject, example: Example) -> None:
    quantizer = subject.prepared(example)
    z = wide_features(quantizer, example)
    for features in (torch.zeros_like(z), z, z / 1000, -run(quantizer, z).vectors.detach()):
        _check_rotation(quantizer, features)
    if quantizer.traits.table:
        direction = upstream_for(torch.empty(quantizer.dim), 3)
        sizes = torch.arange(1.0, 1 + quantizer.levels((1,))[0].num_codes)
        with torch.no_grad():
            quantizer.codebook.copy_(sizes.unsqueeze(1) * direction)  # type: ignore[operator, union-attr]
        _check_rotation(quantizer, torch.stack([-direction, direction, -3 * direction, direction / 50]).T.unsqueeze(0))


def pulled(quantizer: Quantizer, z: Tensor, mask: Tensor | None, upstream: Tensor) -> Tensor:
    """The gradient (b, d, *grid) of z when `upstream` is that of the vectors. Losses have no part in it."""
    leaf = z.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(run(quantizer, leaf, mask).vectors, leaf, upstream)
    return gradient


def _gradient(value: Tensor, leaf: Tensor) -> Tensor:
    """The gradient of the sum of `value`; zero when there is none."""
    if not value.requires_grad:
        return torch.zeros_like(leaf)
    (gradient,) = torch.autograd.grad(value.sum(), leaf, retain_graph=True, allow_unused=True)
    return torch.zeros_like(leaf) if gradient is None else gradient


def _all_gradients(quantizer: Quantizer, out: Quantized, leaf: Tensor) -> dict[str, Tensor]:
    named = {"the features": leaf} | dict(quantizer.named_parameters())
    gradients = torch.autograd.grad(objective(out), list(named.values()), allow_unused=True)
    pairs = zip(named.items(), gradients, strict=True)
    return {name: torch.zeros_like(value) if gradient is None else gradient for (name, value), gradient in pairs}


def _rotates(quantizer: Quantizer) -> bool:
    # several levels turn several parts of a vector, each on its own
    return quantizer.traits.estimator == "rotation" and quantizer.traits.composition is None


def _check_rotation(quantizer: Quantizer, z: Tensor) -> None:
    out = run(quantizer, z.detach().clone().requires_grad_())  # the value that a decoder is trained on
    require_equal(out.vectors, quantizer.decode(out.codes).to(z.dtype), "vectors of the rotation trick")
    upstream = upstream_for(z)
    found = as_rows(pulled(quantizer, z, None, upstream)).double()
    rows, targets, gradients = (as_rows(part.detach()).double() for part in (z, out.vectors, upstream))
    expected, certainty = _turned_back(rows, targets, gradients)
    require(found.isfinite().all(), "gradient of the rotation trick: not finite")
    # where z and its vector are opposite, the plane of the rotation is made of rounding: eps / 2e-3 is what is left of it
    usual, without = certainty > 2e-3, certainty < 5e-4
    require_close(found[usual], expected[usual], "gradient of the rotation trick", relative=1e-3)
    require_close(found[without], gradients[without], "gradient where there is no rotation", relative=1e-6)


def _turned_back(z: Tensor, vectors: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
    """lambda R^T g (n, d) with R, matrices (n, d, d), made of two reflections: at z, then at the middle of z and its vector.

    Also (n,): the length of the sum of the two unit vectors, zero where there is no rotation.
    """
    source, target = (torch.nn.functional.normalize(rows, dim=1, eps=1e-300) for rows in (z, vectors))
    length, other = z.norm(dim=1), vectors.norm(dim=1)
    middle = source + target
    certainty = middle.norm(dim=1) * (length > 0) * (other > 0)
    turns = _reflections(torch.nn.functional.normalize(middle, dim=1, eps=1e-300)) @ _reflections(source)
    gain = (other / length.clamp(min=1e-300)).clamp(max=MAX_GAIN)
    return gain.unsqueeze(1) * (turns.mT @ gradients.unsqueeze(2)).squeeze(2), certainty


def _reflections(unit: Tensor) -> Tensor:
    return torch.eye(unit.shape[1], dtype=unit.dtype) - 2 * unit.unsqueeze(2) * unit.unsqueeze(1)
