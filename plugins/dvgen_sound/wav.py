"""The bytes of a wav file to samples of one channel, 16 bits each, at a chosen rate."""

import io
import math
import threading
import warnings

import numpy as np
from numpy.typing import NDArray

TRANSFORM = "mean of channels, scipy.signal.resample_poly, 16 bits"
RATES = (1000, 768_000)
"""Samples a second that a file may have."""
TERMS = 48_000
"""The largest number in the ratio of two rates in lowest terms; the rates in use are far below.

A filter has twenty taps for each: a damaged header, whose rate shares no factor with the wanted one, would cost seconds.
"""

_READING = threading.Lock()
"""Warning filters belong to the process, and files are read in threads that overlap: each would put back those of another."""


def decode(data: bytes, rate: int) -> NDArray[np.int16]:
    """Samples (t,), from a file of 8- to 64-bit integers or floats, in any number of channels and at any rate.

    Channels are averaged. A file of another rate is resampled with scipy's polyphase filter (a Kaiser window of beta 5),
    its length rounded up. Floats beyond [-1, 1] are clipped. A mono file of 16 bits and this rate is not changed at all.
    Raises an exception of nearly any kind for a file that is damaged, cut off, or no wav file.
    """
    from scipy.io import wavfile  # half a second of imports

    with _READING, warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # a chunk of another program's notes
        warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
        found, samples = wavfile.read(io.BytesIO(data))
    if not RATES[0] <= found <= RATES[1]:
        raise ValueError(f"{found} samples a second, outside {RATES[0]} to {RATES[1]}")
    if not len(samples):
        raise ValueError("holds no samples")
    mono = _scaled(samples).reshape(len(samples), -1).mean(axis=1)
    if not np.isfinite(mono).all():
        raise ValueError("holds a sample that is not finite")
    return np.rint(_resampled(mono, found, rate) * 32768).clip(-32768, 32767).astype(np.int16)


def _scaled(samples: NDArray[np.generic]) -> NDArray[np.float64]:
    """Float64 of the same shape: floats as they are, integers so that their range is [-1, 1). 8-bit samples are unsigned."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float64).clip(-1, 1)
    centre = 128.0 if samples.dtype.kind == "u" else 0.0
    return np.asarray((samples.astype(np.float64) - centre) / 2.0 ** (8 * samples.dtype.itemsize - 1), dtype=np.float64)


def _resampled(samples: NDArray[np.float64], found: int, wanted: int) -> NDArray[np.float64]:
    if found == wanted:
        return samples
    up, down = wanted // math.gcd(found, wanted), found // math.gcd(found, wanted)
    if max(up, down) > TERMS:
        raise ValueError(f"{found} samples a second, which are to {wanted} as {down} to {up}: beyond {TERMS}, too costly")
    from scipy.signal import resample_poly  # a second of imports

    return np.asarray(resample_poly(samples, up, down), dtype=np.float64)
