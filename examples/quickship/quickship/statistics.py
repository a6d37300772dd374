"""Means with intervals that do not pretend that flights of one airport and day are independent."""

import numpy as np

LEVEL = 0.95
# Two-sided quantile of the normal distribution for that level; there are hundreds of clusters in a week.
QUANTILE = 1.959964


def mean(values: np.ndarray, clusters: np.ndarray) -> tuple[float, float, float]:
    """The mean with its cluster-robust interval (Liang and Zeger, Biometrika 73, 1986, pages 13-22)."""
    if len(values) == 0:
        raise SystemExit("a mean of no rows was asked for")
    centre = float(values.mean())
    _, index = np.unique(clusters, return_inverse=True)
    sums = np.bincount(index, values - centre)
    if len(sums) < 2:
        raise SystemExit("an interval needs rows of at least two airports or days")
    spread = QUANTILE * np.sqrt(len(sums) / (len(sums) - 1) * (sums @ sums)) / len(values)
    return centre, centre - float(spread), centre + float(spread)


def clusters(table) -> np.ndarray:
    """One number for each origin and day of a table of arrivals."""
    origin = table["origin"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    day = table["departure"].to_numpy().astype("datetime64[D]").astype(np.int64)
    return origin * 100_000 + day
