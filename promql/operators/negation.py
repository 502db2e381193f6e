"""The unary minus."""

from dataclasses import replace

import numpy as np

from promql.histograms.arithmetic import scale
from promql.values.matrix import Matrix
from promql.values.matrix_histograms import are_histograms


def negated(matrix: Matrix) -> Matrix:
    """Every sample times -1; histograms become gauges."""
    found, columns = are_histograms(matrix), matrix.histograms
    if found is None or columns is None:
        return replace(matrix, values=-matrix.values, histograms=None)
    values = np.where(found, matrix.values, -matrix.values)
    return replace(matrix, values=values, histograms=scale(columns, np.full(len(columns), -1.0)))
