"""Arithmetic and statistics of native histograms, over whole columns."""
