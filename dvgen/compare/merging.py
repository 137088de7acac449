"""One measurement of several repeats of a training."""

from collections.abc import Mapping, Sequence

import numpy as np

from dvgen.evaluation.measurement import Interval, Measurement, difference
from dvgen.evaluation.nll import Floats
from dvgen.evaluation.statistics import mean_interval, seeds_interval


def merge(repeats: Sequence[Mapping[str, Measurement]], by_image: Sequence[Mapping[str, Floats]]) -> dict[str, Measurement]:
    """One measurement a name over the measurements of all repeats; those of a single one as they are.

    by_image: of each repeat, the values (n,) of the test images by name, of what is a mean over them: its interval is over
    images and repeats. That of anything else, and of a single image, is over repeats; of repeats that agree exactly, such as
    in a share of 0, it is that of one of them, for the next might not. Raises IncomparableError for repeats
    that were measured differently.
    """
    if len(repeats) == 1:
        return dict(repeats[0])
    merged = {}
    for name, first in repeats[0].items():
        same = [repeat[name] for repeat in repeats]
        for other in same:
            difference(first, other)
        if name in by_image[0] and len(by_image[0][name]) > 1:
            mean, interval = seeds_interval([values[name] for values in by_image])
            merged[name] = Measurement(mean, interval, first.n, first.key)
        else:
            value, over = mean_interval([one.value for one in same])
            if over is not None and over[0] == over[1]:
                over = first.interval
            merged[name] = Measurement(value, over, len(repeats), first.key, _range(same))
    return merged


def _range(measurements: Sequence[Measurement]) -> Interval | None:
    """The mean least and the mean greatest value over the networks of features, where there are several."""
    ends = [one.range for one in measurements if one.range is not None]
    if len(ends) < len(measurements):
        return None
    low, high = np.mean(ends, axis=0)
    return float(low), float(high)
