"""Every m-height of a real code [I | P], exactly, and a codeword that attains it.

The m-height of a code is the largest ratio of the largest to the (m+1)-th largest magnitude over its nonzero codewords
(Jiang, IEEE T-IT 70(11), 2024, who finds it by m C(n, m) linear programs). Here it is read off the maximal minors (the
dual of those programs; Roth, Zhu, Yuan, Siegel and Jiang, arXiv 2602.20366). With p(T) the minor of the columns T,
|T| = k, and S(U) = sum over u in U of |p(U - u)| for |U| = k + 1: as long as the coordinates T stay within [-1, 1], any
other one, j, stays within S(U) / |p(U - j)| - 1, where U = T + j. So

    f(W, j) = min over U of W with j in U of S(U) / |p(U - j)| = min over u in W - j of f(W - u, j),
    h_m     = max over |W| = n - m + 1, j in W of f(W, j) - 1,

and one sweep over |W| = k + 1 ... n gives all heights at once. The same lines run in NumPy and under `jax.jit`.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlip.errors import UserError

LONGEST = 16
"""Longest code: the sweep takes n 2^n steps a matrix."""
CHUNK = 512
"""Matrices at a time, so that NumPy works in the cache."""
SINGULAR = 2.0**-46
"""A minor below this part of the sum of its terms' magnitudes is rounding, not a value."""


class _Expansion(NamedTuple):
    """Laplace expansion of all minors of one size along their first row, from entries and the minors one smaller."""

    entry_ES: np.ndarray
    minor_ES: np.ndarray


class Tables(NamedTuple):
    """Where a sweep for [n, k] reads. Minors lie in the order size 0, 1, ... of all square submatrices of P."""

    expansions: tuple[_Expansion, ...]
    facet_UJ: np.ndarray
    """The minor p(U - j) of every U, |U| = k + 1, and j in U, in ascending order."""
    cofacet_TU: np.ndarray
    """The U = T + j of every T, in the order of the minors."""
    smaller: tuple[np.ndarray, ...]
    """For |W| = k + 2 ... n: where f(W - u, j) is for each (W, j) and u."""


def _subsets(count: int, size: int) -> list[tuple[int, ...]]:
    return list(itertools.combinations(range(count), size))


def _masks(n: int, size: int) -> np.ndarray:
    return np.array([sum(1 << i for i in subset) for subset in _subsets(n, size)], np.int64)


def _members(masks_W: np.ndarray, n: int) -> np.ndarray:
    """Elements of every set, ascending; sets of equal size."""
    inside_WN = (masks_W[:, None] >> np.arange(n)) & 1
    return np.nonzero(inside_WN)[1].reshape(len(masks_W), -1)


@functools.lru_cache(maxsize=32)
def tables(k: int, r: int) -> Tables:
    """The tables for P [k, r]."""
    n, expansions, rows_columns = k + r, [], [(0, 0)]
    where: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {((), ()): 0}
    for size in range(1, min(k, r) + 1):
        entries, minors, places = [], [], {}
        for rows, columns in itertools.product(_subsets(k, size), _subsets(r, size)):
            entries.append([rows[0] * r + c for c in columns])
            minors.append([where[rows[1:], columns[:i] + columns[i + 1 :]] for i in range(size)])
            places[rows, columns] = len(places)
            rows_columns.append((sum(1 << i for i in rows), sum(1 << c for c in columns)))
        expansions.append(_Expansion(np.array(entries), np.array(minors)))
        where = places
    rows_M, columns_M = np.array(rows_columns).T
    # The identity's columns outside R, and P's columns C, span a minor of [I | P] equal to that of P up to its sign.
    minor_of = np.zeros(1 << n, np.int64)
    minor_of[((1 << k) - 1 - rows_M) | (columns_M << k)] = np.arange(len(rows_M))
    masks_U = _masks(n, k + 1)
    facet_UJ = minor_of[masks_U[:, None] ^ (1 << _members(masks_U, n))]
    cofacet_TU = np.argsort(facet_UJ.reshape(-1), kind="stable").reshape(len(rows_M), r) // (k + 1)
    smaller, rank = [], np.zeros(1 << n, np.int64)
    rank[masks_U] = np.arange(len(masks_U))
    for size in range(k + 2, n + 1):
        masks_W = _masks(n, size)
        others_JU = np.array([[u for u in range(size) if u != j] for j in range(size)])
        without_WS = rank[masks_W[:, None] ^ (1 << _members(masks_W, n))]
        place_JU = np.arange(size)[:, None] - (others_JU < np.arange(size)[:, None])
        smaller.append((without_WS[:, others_JU] * (size - 1) + place_JU).reshape(-1, size - 1))
        rank[masks_W] = np.arange(len(masks_W))
    return Tables(tuple(expansions), facet_UJ, cofacet_TU, tuple(smaller))


def fold(operation: Any, rows: Any, index_EI: np.ndarray) -> Any:
    """operation(... operation(rows[i0], rows[i1]) ..., rows[i]) for every row of the index."""
    return functools.reduce(operation, (rows[index_E] for index_E in index_EI.T))


def absolute_minors(P_BKR: Any, xp: Any = np) -> Any:
    """|p| [M, B] of all square submatrices of P, float64 (the empty one is 1); rounding errors of 0 are 0."""
    B, k, r = P_BKR.shape
    entries_EB = P_BKR.reshape(B, k * r).T
    minors_MB, terms_MB = xp.ones((1, B), entries_EB.dtype), xp.ones((1, B), entries_EB.dtype)
    found = [terms_MB]
    for entry_ES, minor_ES in tables(k, r).expansions:
        terms_of = list(zip(entry_ES.T, minor_ES.T, strict=True))
        signed = [(-1) ** i * entries_EB[e] * minors_MB[m] for i, (e, m) in enumerate(terms_of)]
        terms_MB = functools.reduce(xp.add, [abs(entries_EB[e]) * terms_MB[m] for e, m in terms_of])
        minors_MB = functools.reduce(xp.add, signed)
        found.append(xp.where(abs(minors_MB) <= SINGULAR * terms_MB, 0.0, abs(minors_MB)))
    return xp.concatenate(found)


def reaches(minors_MB: Any, k: int, r: int, xp: Any = np) -> Any:
    """S(U) / |p(U - j)| [U, k+1, B] for every U and j in U, infinite where T = U - j spans nothing."""
    facet_UJ = tables(k, r).facet_UJ
    sums_UB = fold(xp.add, minors_MB, facet_UJ)
    # JAX cannot differentiate a lookup by a table across a change of precision, but one by a vector of places.
    facets_UJB = minors_MB[facet_UJ] if xp is np else xp.stack([minors_MB[facet_U] for facet_U in facet_UJ.T], axis=1)
    spans_UJB = facets_UJB > 0
    return xp.where(spans_UJB, sums_UB[:, None] / xp.where(spans_UJB, facets_UJB, 1.0), xp.inf)


def sweep(P_BKR: Any, xp: Any = np) -> Iterator[Any]:
    """f(W, j) [E, B] for |W| = k + 1 ... n in turn: every W in the order of combinations, and every j in it.

    In the dtype of P, which should be float64.
    """
    _, k, r = P_BKR.shape
    reach_UJB = reaches(absolute_minors(P_BKR, xp), k, r, xp)
    f_EB = reach_UJB.reshape(-1, reach_UJB.shape[-1])
    yield f_EB
    for index_EI in tables(k, r).smaller:
        f_EB = fold(xp.minimum, f_EB, index_EI)
        yield f_EB


def _heights(P_BKR: Any, xp: Any = np) -> Any:
    return xp.stack([f_EB.max(axis=0) - 1 for f_EB in sweep(P_BKR, xp)][::-1], axis=1)


@jax.jit
def _heights_on_device(P_BKR):
    return _heights(P_BKR, jnp)


def heights(P: Any) -> Any:
    """All heights h_1 ... h_r of the codes [I | P], float64 [B, r], for P [B, k, r] with n = k + r up to 16.

    Infinite where a nonzero codeword has weight m or less. NumPy arrays are computed by NumPy, JAX arrays on their
    device (also inside jit). Raises UserError for another shape, or for entries that are not finite.
    """
    if getattr(P, "ndim", 0) != 3 or min(P.shape[1:]) < 1 or sum(P.shape[1:]) > LONGEST:
        raise UserError(
            f"P has shape {np.shape(P)}; it must be [B, k, n-k] with k and n-k at least 1 and n at most {LONGEST}."
        )
    if isinstance(P, jax.Array):
        with jax.enable_x64(True):
            return _heights_on_device(P.astype(jnp.float64))
    P_BKR = np.asarray(P, np.float64)
    if not np.isfinite(P_BKR).all():
        raise UserError("P has entries that are not finite.")
    parts = [_heights(P_BKR[start : start + CHUNK]) for start in range(0, len(P_BKR), CHUNK)]
    return np.concatenate(parts) if parts else np.zeros((0, P_BKR.shape[2]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificate:
    """A codeword [n] of [I | P] whose ratio of largest to (m+1)-th largest magnitude is the m-height."""

    m: int
    height: float
    codeword_N: np.ndarray


def ratio(codeword_N: np.ndarray, m: int) -> float:
    """Largest over (m+1)-th largest magnitude of a nonzero codeword; infinite where the latter is 0."""
    falling_N = np.sort(np.abs(codeword_N))[::-1]
    return float(falling_N[0] / falling_N[m]) if falling_N[m] > 0 else float("inf")


def certificate(P_KR: np.ndarray, m: int) -> Certificate:
    """The m-height of one code and a codeword that attains it. Raises UserError for an m that is not 1 ... n-k."""
    k, r = P_KR.shape
    if not 1 <= m <= r:
        raise UserError(f"m={m} must be from 1 to n-k={r}.")
    P_KR = np.asarray(P_KR, np.float64)
    height = float(heights(P_KR[None])[0, m - 1])
    f_E = list(sweep(P_KR[None]))[r - m][:, 0]
    sets, size = _subsets(k + r, k + r - m + 1), k + r - m + 1
    chosen, place = divmod(int(f_E.argmax()), size)
    within = [i for i in sets[chosen] if i != sets[chosen][place]]
    G_KN = np.concatenate([np.eye(k), P_KR], axis=1)
    if np.isinf(height):
        codeword_N = np.linalg.svd(G_KN[:, within])[0][:, -1] @ G_KN
        codeword_N[within] = 0
        return Certificate(m=m, height=height, codeword_N=codeword_N / np.abs(codeword_N).max())
    return Certificate(m=m, height=height, codeword_N=_furthest(G_KN, within, sets[chosen][place]))


def _furthest(G_KN: np.ndarray, within: list[int], j: int) -> np.ndarray:
    """The codeword with the largest coordinate j among those that lie in [-1, 1] on `within`."""
    # SciPy comes with JAX; importing its optimisers takes half a second.
    from scipy.optimize import linprog

    inside_AK = G_KN[:, within].T
    bounds_2A = np.ones(2 * len(within))
    found = linprog(-G_KN[:, j], np.concatenate([inside_AK, -inside_AK]), bounds_2A, bounds=(None, None))
    return found.x @ G_KN
