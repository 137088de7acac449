"""How close reconstructions come to their signals: PSNR, SSIM and LPIPS of images, SNR of sound."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, final

import numpy as np
from attrs import frozen
from torch import Tensor

from dvgen.errors import DataError
from dvgen.evaluation.measurement import Key, Measurement
from dvgen.evaluation.perceptual import LPIPS
from dvgen.evaluation.reconstruction import WINDOW, psnr, psnr_key, ssim, ssim_key
from dvgen.evaluation.sounds import sampling_rate, snr, snr_key
from dvgen.evaluation.statistics import mean_interval
from dvgen.interfaces.data import Dataset


class Measure(NamedTuple):
    """of: (reconstructed, signals), one value a signal, (b,), NaN where there is none. key: of the mean over data and split."""

    of: Callable[[Tensor, Tensor], Tensor]
    key: Callable[[str, str], Key]


@final
@frozen
class Fidelity:
    """The measures for signals of one set, by name."""

    known: Mapping[str, Measure]

    def measures(self, reconstructed: Tensor, signals: Tensor) -> dict[str, Tensor]:
        """The values (b,) of every measure, by name, of signals (b, channels, *size) in [-1, 1]; NaN where there is none."""
        return {name: measure.of(reconstructed, signals) for name, measure in self.known.items()}

    def measurements(self, values: Mapping[str, Tensor], data: str, split: str) -> dict[str, Measurement]:
        """The means of all values (n,) of a split, by name; raises DataError when none of them is a number.

        data: identity (a hash) of data set and transform.
        """
        return {name: _mean(of_all, self.known[name].key(data, split), split) for name, of_all in values.items()}


def fidelity_of(dataset: Dataset) -> Fidelity:
    """The measures for this set: snr of sound; of images psnr, ssim from 11 x 11 pixels on, lpips where its weights are.

    Raises DataError for a file of weights that is damaged.
    """
    if sampling_rate(dataset) is not None:
        return Fidelity({"snr": Measure(snr, snr_key)})
    known = {"psnr": Measure(psnr, psnr_key)}
    if len(dataset.shape) == 3 and min(dataset.shape[1:]) >= WINDOW:
        known["ssim"] = Measure(ssim, ssim_key)
    if LPIPS.takes(dataset.shape):
        perceptual = LPIPS(dataset.shape[1:])
        known["lpips"] = Measure(perceptual, perceptual.key)
    return Fidelity(known)


def _mean(values: Tensor, key: Key, split: str) -> Measurement:
    numbers = values.double().cpu().numpy()
    there = numbers[~np.isnan(numbers)]
    if not len(there):
        raise DataError(
            f"all {len(numbers)} sounds of the {split} split are silent, so there is nothing to compare; use others"
        )
    mean, interval = mean_interval(there)
    return Measurement(mean, interval, len(there), key)
