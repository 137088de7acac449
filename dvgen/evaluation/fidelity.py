"""How close reconstructions come to their signals: PSNR of images, SNR of sound."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dvgen.errors import DataError
from dvgen.evaluation.measurement import Key, Measurement
from dvgen.evaluation.reconstruction import psnr, psnr_key
from dvgen.evaluation.sounds import sampling_rate, snr, snr_key
from dvgen.evaluation.statistics import mean_interval
from dvgen.interfaces.data import Dataset


class Fidelity(NamedTuple):
    """name: of the measurement. decibels: of (reconstructed, signals), (b,), NaN where there are none. key: of their mean."""

    name: str
    decibels: Callable[[Tensor, Tensor], Tensor]
    key: Callable[[str, str], Key]

    def mean(self, decibels: list[Tensor], data: str, split: str) -> dict[str, Measurement]:
        """The mean over batches of decibels, by name; raises DataError when none of them is a number."""
        values = torch.cat(decibels).numpy()
        known = values[~np.isnan(values)]
        if not len(known):
            raise DataError(
                f"all {len(values)} sounds of the {split} split are silent, so there is nothing to compare; use others"
            )
        mean, interval = mean_interval(known)
        return {self.name: Measurement(mean, interval, len(known), self.key(data, split))}


IMAGES = Fidelity("psnr", psnr, psnr_key)
SOUND = Fidelity("snr", snr, snr_key)


def fidelity_of(dataset: Dataset) -> Fidelity:
    """The measure for signals of this set."""
    return IMAGES if sampling_rate(dataset) is None else SOUND
