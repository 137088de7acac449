"""The small classifier learns, from its arguments alone, and leaves the run's random numbers where they were."""

import pytest
import torch
from torch import Tensor

from dvgen.blocks.classifier import BATCH, SmallClassifier, train_classifier


def stripes(n: int, seed: int, size: tuple[int, int] = (16, 16)) -> tuple[Tensor, Tensor]:
    """Noise with stripes along (class 0) or across (class 1), at a random phase."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (n,), generator=generator)
    phase = torch.rand(n, 1, 1, generator=generator) * 6.3
    along = torch.sin(torch.arange(size[0]) * 1.5 + phase)[:, 0, :, None].expand(n, *size)
    across = torch.sin(torch.arange(size[1]) * 1.5 + phase)[:, 0, None, :].expand(n, *size)
    noise = torch.randn(n, *size, generator=generator)
    return (0.3 * torch.where(labels[:, None, None] == 0, along, across) + 0.3 * noise).clamp(-1, 1)[:, None], labels


def trained(n: int = 300, steps: int = 12, seed: int = 0, seen: list[Tensor] | None = None) -> SmallClassifier:
    signals, labels = stripes(n, 0)

    def batches(indices: Tensor) -> tuple[Tensor, Tensor]:
        if seen is not None:
            seen.append(indices)
        return signals[indices], labels[indices]

    return train_classifier(batches, n, channels=1, classes=2, steps=steps, seed=seed, pause=lambda: None)


def test_it_learns_what_it_has_not_seen() -> None:
    model = trained(steps=30)
    signals, labels = stripes(200, 1)
    assert not model.training
    assert float((model(signals).argmax(dim=1) == labels).double().mean()) > 0.95
    assert float((SmallClassifier(1, 2).eval()(signals).argmax(dim=1) == labels).double().mean()) < 0.8


def test_it_is_a_function_of_its_arguments() -> None:
    """Whatever the global random state, and whether gradients are wanted around it; another seed is another network."""
    torch.manual_seed(1)
    first = trained(steps=3)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    with torch.no_grad():
        second = trained(steps=3)
    assert torch.equal(torch.get_rng_state(), before)
    for one, two in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(first.last.weight, trained(steps=3, seed=1).last.weight)


def test_threads_change_roundings_only() -> None:
    signals, _ = stripes(20, 1)
    one = trained(steps=3)(signals)
    torch.set_num_threads(2)
    try:
        torch.testing.assert_close(trained(steps=3)(signals), one, rtol=1e-3, atol=1e-3)
    finally:
        torch.set_num_threads(1)


def test_every_image_is_seen_once_before_any_is_seen_again() -> None:
    seen: list[Tensor] = []
    trained(n=300, steps=6, seen=seen)
    assert [len(indices) for indices in seen] == [BATCH, BATCH, 300 - 2 * BATCH] * 2
    first, second = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(300))
    assert not torch.equal(first, second)


def test_it_can_be_stopped_before_any_step() -> None:
    class Enough(Exception):
        pass

    calls: list[None] = []

    def pause() -> None:
        calls.append(None)
        if len(calls) == 3:
            raise Enough

    signals, labels = stripes(10, 0)
    with pytest.raises(Enough):
        train_classifier(lambda i: (signals[i], labels[i]), 10, channels=1, classes=2, steps=9, seed=0, pause=pause)
    assert len(calls) == 3


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (28, 28), (96, 80)])
def test_logits_are_linear_in_64_features_that_are_not_negative(size: tuple[int, int]) -> None:
    model = trained(steps=2)
    signals, _ = stripes(3, 2, size)
    features = model.features(signals).detach()
    assert features.shape == (3, 64)
    assert float(features.min()) >= 0
    torch.testing.assert_close(model(signals).detach(), (features @ model.last.weight.T + model.last.bias).detach())
    torch.testing.assert_close(torch.cat([model(s) for s in signals.split(1)]), model(signals), rtol=1e-4, atol=1e-5)


def test_large_images_are_averaged_down_to_64() -> None:
    model = trained(steps=2)
    signals, _ = stripes(2, 2, (128, 128))
    halved = signals.reshape(2, 1, 64, 2, 64, 2).mean(dim=(3, 5))
    torch.testing.assert_close(model(signals), model(halved), rtol=1e-4, atol=1e-5)
