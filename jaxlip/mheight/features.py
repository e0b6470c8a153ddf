"""What all information-set forms of a code have in common: features that no change of basis, order or sign moves.

A code has as many systematic forms [I | G_T^-1 G_Tc] as it has information sets T. By Cramer's rule their entries are
ratios of the minors of [I | P], so that nothing is inverted.
"""

from typing import Any

import numpy as np

from jaxlip.mheight.exact import absolute_minors, fold, tables

CAP = 40.0
"""Largest feature, in log2: that of sets T that are singular, or nearly so."""


def form_features(P_BKR: Any, xp: Any = np) -> Any:
    """For every k-set T of columns, log2 of the largest magnitude in its form (1 at least, as in its identity), sorted
    over T: [B, T], in the dtype of P (which should be float64).
    """
    _, k, r = P_BKR.shape
    minors_TB = absolute_minors(P_BKR, xp)
    largest_TB = fold(xp.maximum, fold(xp.maximum, minors_TB, tables(k, r).facet_UJ), tables(k, r).cofacet_TU)
    # Where T is singular the ratio is infinite.
    least_TB = xp.maximum(minors_TB, largest_TB * 2.0**-CAP)
    positive_TB = largest_TB > 0
    log_TB = xp.log2(xp.where(positive_TB, largest_TB, 1.0) / xp.where(positive_TB, least_TB, 2.0**-CAP))
    return xp.sort(log_TB, axis=0).T


def linear_probe(
    matrices: Any, log2_NG: np.ndarray, weight_NG: np.ndarray, asked: Any, groups: tuple[tuple[int, int], ...]
) -> np.ndarray:
    """log2 heights [B, G] of the matrices `asked` by ridge regression on the sorted log maxima of all forms.

    `matrices` and `asked` hold P [N, k, n-k] and [B, k, n-k] of every k in turn; rows of weight 0 are left out.
    """
    ks, columns = sorted({k for k, _ in groups}), []
    known = [form_features(np.asarray(P, np.float64)) for P in matrices]
    new = [form_features(np.asarray(P, np.float64)) for P in asked]
    for g, (k, _) in enumerate(groups):
        used_N = weight_NG[:, g] > 0
        x_ND, y_N = known[ks.index(k)][used_N], log2_NG[used_N, g].astype(np.float64)
        centre_D, centre = x_ND.mean(axis=0), y_N.mean()
        x_ND = x_ND - centre_D[None]
        ridge = np.trace(x_ND.T @ x_ND) / x_ND.shape[1] * 1e-4
        slope_D = np.linalg.solve(x_ND.T @ x_ND + ridge * np.eye(x_ND.shape[1]), x_ND.T @ (y_N - centre))
        columns.append((new[ks.index(k)] - centre_D[None]) @ slope_D + centre)
    return np.stack(columns, axis=1)
