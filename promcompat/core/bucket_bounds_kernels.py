"""The bounds of exponential buckets, to the bit as Prometheus has them.

Bucket i of schema n ends at `2 ** (i * 2 ** -n)`. Prometheus takes the fraction of that number from
a table of decimal numbers, which are not all correctly rounded, so this module has the same table.
"""

import math
from typing import Final

import numpy as np

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import FloatArray

_FINEST_SCHEMA: Final = 8
_N_FRACTIONS: Final = 1 << _FINEST_SCHEMA
_ULPS_BELOW: Final = (
    "1111112111211111112311222222222211211121122211221122102211221122"
    "1111112222332132112111211112111111121011213311221222112121332222"
    "2121223322322122222222323233323311221121223321332233212232332232"
    "2243223233433343333333444455435422322333324422333243223333543344"
)
"""One digit for each fraction: how far it is below the nearest float, plus 1."""
_PRECISE_BITS: Final = 100
_MAX_FLOAT: Final = float(np.finfo(np.float64).max)
_MAX_EXPONENT: Final = 1024
_OVERFLOW: Final = 1 << 12
"""An exponent that is infinite or zero in every float."""


def _fractions() -> FloatArray:
    """`0.5 * 2 ** (k / 256)` for k from 0 to 255."""
    roots = [2 << _PRECISE_BITS]
    while len(roots) <= _FINEST_SCHEMA:
        roots.append(math.isqrt(roots[-1] << _PRECISE_BITS))
    # roots[j] is 2 ** (1 / 2 ** j); a product of some of them is 2 to the power of any k / 256.
    powers = [1 << _PRECISE_BITS]
    for root in roots[:0:-1]:
        powers += [power * root >> _PRECISE_BITS for power in powers]
    nearest = np.array([power / (2 << _PRECISE_BITS) for power in powers])
    below = np.array(list(map(int, _ULPS_BELOW))) - 1
    fractions: FloatArray = (nearest.view(np.int64) - below).view(np.float64)
    return fractions


EXPONENTIAL_FRACTIONS: Final = _fractions()
"""The fractions of the bounds of schema 8, [256] in [0.5, 1); coarser schemas have some of them."""


@kernel(allocates=False)
def exponential_bound(schema: int, index: int) -> float:
    """The upper bound of a bucket; that of the last one below infinity is the greatest float."""
    if schema < 0:
        exponent = max(-_OVERFLOW, min(index, _OVERFLOW)) << -schema
        return _MAX_FLOAT if exponent == _MAX_EXPONENT else math.ldexp(1.0, exponent)
    exponent = max(-_OVERFLOW, min((index >> schema) + 1, _OVERFLOW))
    part = index & ((1 << schema) - 1)
    if part == 0 and exponent == _MAX_EXPONENT + 1:
        return _MAX_FLOAT
    # The mask keeps a schema that no histogram has within the table.
    place = (part << max(_FINEST_SCHEMA - schema, 0)) & (_N_FRACTIONS - 1)
    return math.ldexp(EXPONENTIAL_FRACTIONS[place], exponent)


@kernel(allocates=False)
def custom_bound(index: int, bounds: FloatArray) -> float:
    """The upper bound of a custom bucket; the one after the last bound ends at +Inf.

    What is before the first bucket is below -Inf.
    """
    if index < 0:
        return -np.inf
    return float(bounds[index]) if index < len(bounds) else np.inf
