"""Exact m-heights against linear programs, by their invariances, where they are infinite, and from the command line."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from jaxlip.cli import mheight
from jaxlip.cli.main import guarded
from jaxlip.errors import UserError
from jaxlip.mheight import certificate, heights, ratio

GROUPS = [(4, 2), (4, 3), (4, 4), (4, 5), (5, 2), (5, 3), (5, 4), (6, 2), (6, 3)]
PER_GROUP = 50


def height_by_linear_programs(P_KR: np.ndarray, m: int) -> float:
    """Jiang's programs: an m-set with its largest coordinate j in it, all outside it within [-1, 1]."""
    G_KN = np.concatenate([np.eye(len(P_KR)), P_KR], axis=1)
    n, best = G_KN.shape[1], 0.0
    for large in itertools.combinations(range(n), m):
        A_MK = G_KN[:, [i for i in range(n) if i not in large]].T
        for j in large:
            found = linprog(-G_KN[:, j], np.concatenate([A_MK, -A_MK]), np.ones(2 * len(A_MK)), bounds=(None, None))
            # 0 is always feasible: where presolve says otherwise, it has met an unbounded ray.
            if found.status in (2, 3):
                return np.inf
            assert found.status == 0, found.message
            best = max(best, -found.fun)
    return best


def matrices(k: int, count: int) -> np.ndarray:
    """Integers large and small (many of them singular somewhere), reals and normal numbers in turn."""
    rng, shape = np.random.default_rng(k), (count, k, 9 - k)
    kinds = [
        rng.integers(-100, 101, shape),
        rng.integers(-3, 4, shape),
        rng.uniform(-100, 100, shape),
        rng.normal(size=shape),
    ]
    return np.stack([kinds[i % 4][i] for i in range(count)]).astype(np.float64)


def assert_same(got, want, tolerance=1e-9):
    got, want = np.asarray(got), np.asarray(want)
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    finite = np.isfinite(want)
    np.testing.assert_allclose(np.log2(got[finite]), np.log2(want[finite]), atol=tolerance, rtol=0)


def on_device(P_BKR):
    with jax.enable_x64(True):
        return jax.device_put(P_BKR)


def check_groups(groups, count):
    for k, m in groups:
        P_BKR = matrices(k, count)
        want_B = [height_by_linear_programs(P_KR, m) for P_KR in P_BKR]
        assert_same(heights(P_BKR)[:, m - 1], want_B)
        assert_same(heights(on_device(P_BKR))[:, m - 1], want_B)


def test_equals_linear_programs_in_every_group():
    check_groups(GROUPS, 3)


@pytest.mark.slow
def test_equals_linear_programs_on_many_matrices_of_every_group():
    check_groups(GROUPS, PER_GROUP)


@pytest.mark.parametrize("k, r", [(1, 1), (1, 4), (4, 1), (2, 3), (3, 3)])
def test_other_shapes_equal_linear_programs(k, r):
    P_BKR = np.random.default_rng(0).integers(-4, 5, (3, k, r)).astype(float)
    for m in range(1, r + 1):
        assert_same(heights(P_BKR)[:, m - 1], [height_by_linear_programs(P_KR, m) for P_KR in P_BKR])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([4, 5, 6]), st.booleans())
def test_invariances_and_order(seed, k, integers):
    rng = np.random.default_rng(seed)
    P_KR = rng.integers(-100, 101, (k, 9 - k)).astype(float) if integers else rng.normal(size=(k, 9 - k))
    G_KN = np.concatenate([np.eye(k), P_KR], axis=1)
    columns = rng.permutation(9)
    T, rest = columns[:k], columns[k:]
    same = [
        P_KR,
        P_KR[rng.permutation(k)][:, rng.permutation(9 - k)],
        P_KR * rng.choice([-1.0, 1.0], k)[:, None] * rng.choice([-1.0, 1.0], 9 - k)[None],
    ]
    if np.linalg.cond(G_KN[:, T]) < 1e6:
        same.append(np.linalg.solve(G_KN[:, T], G_KN[:, rest]))
    found = heights(np.stack(same))
    if not np.isinf(found).any():
        assert_same(found, np.broadcast_to(found[:1], found.shape), tolerance=1e-8)
    assert (found[:3] >= 1).all() and (found[:3, 1:] >= found[:3, :-1]).all()


def test_infinite_exactly_where_a_codeword_is_light():
    rng = np.random.default_rng(1)
    P_KR = rng.integers(1, 101, (4, 5)).astype(float)
    assert np.isfinite(heights(P_KR[None])).all()
    zero = P_KR.copy()
    zero[1, 2] = 0
    np.testing.assert_array_equal(np.isinf(heights(zero[None]))[0], [False] * 4 + [True])
    # A row of zeros makes its codeword weight 1: every height is infinite.
    zero[1] = 0
    assert np.isinf(heights(zero[None])).all()
    # Two equal rows of reals: their difference has weight 2. A sum of rows that is another row: weight 4.
    real = rng.normal(size=(4, 5))
    real[3] = real[0]
    np.testing.assert_array_equal(np.isinf(heights(real[None]))[0], [False, True, True, True, True])
    real[3] = real[0] + 0.1 * real[1] - 0.3 * real[2]
    np.testing.assert_array_equal(np.isinf(heights(real[None]))[0], [False, False, False, True, True])
    np.testing.assert_array_equal(np.isinf(np.asarray(heights(on_device(real[None]))))[0], [False] * 3 + [True] * 2)


def test_certificates_show_every_height():
    for P_KR in [*matrices(4, 8), *matrices(5, 8), *matrices(6, 8)]:
        found_R = heights(P_KR[None])[0]
        G_KN = np.concatenate([np.eye(len(P_KR)), P_KR], axis=1)
        for m in range(1, len(found_R) + 1):
            shown = certificate(P_KR, m)
            assert_same([shown.height, ratio(shown.codeword_N, m)], [found_R[m - 1]] * 2)
            message_K = shown.codeword_N[: len(P_KR)]
            np.testing.assert_allclose(message_K @ G_KN, shown.codeword_N, atol=1e-9 * np.abs(shown.codeword_N).max())


def test_long_codes_and_traced_ones():
    P_BKR = np.random.default_rng(2).normal(size=(2, 8, 8))
    found = heights(P_BKR)
    assert found.shape == (2, 8) and (np.diff(found) >= 0).all()
    shown = certificate(P_BKR[0], 3)
    assert_same([ratio(shown.codeword_N, 3)], [found[0, 2]])
    doubled = jax.jit(lambda P: 2 * heights(P).astype("float32"))(jax.numpy.asarray(P_BKR[:, :4, :4], "float32"))
    np.testing.assert_allclose(doubled, 2 * heights(P_BKR[:, :4, :4].astype(np.float32)), rtol=1e-5)


def test_other_shapes_and_values_are_one_line(tmp_path, capsys):
    with pytest.raises(UserError, match=r"P has shape \(4, 5\)"):
        heights(np.ones((4, 5)))
    with pytest.raises(UserError, match="n at most 16"):
        heights(np.ones((1, 9, 8)))
    with pytest.raises(UserError, match="not finite"):
        heights(np.full((1, 2, 2), np.nan))
    np.save(tmp_path / "P.npy", np.array([[1, 2], [3, -4]]))
    assert guarded(mheight.run, [str(tmp_path / "P.npy"), "-m", "3"]) == 2
    assert "m=3 must be from 1 to n-k=2" in capsys.readouterr().err
    (tmp_path / "text.npy").write_text("1 2 3")
    assert guarded(mheight.run, [str(tmp_path / "text.npy")]) == 2
    assert guarded(mheight.run, [str(tmp_path / "none.npy")]) == 2
    assert capsys.readouterr().err.count("cannot be read as a matrix of numbers") == 2


def test_the_command_prints_heights_and_a_codeword(tmp_path, capsys):
    P_KR = matrices(6, 1)[0]
    np.save(tmp_path / "P.npy", P_KR)
    assert guarded(mheight.run, [str(tmp_path / "P.npy"), "-m", "2"]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    want = heights(P_KR[None])[0]
    np.testing.assert_allclose([float(word) for word in first.split()[1::2]], want, rtol=1e-10)
    codeword = np.array([float(word) for word in second.split()[1:]])
    assert ratio(codeword, 2) == pytest.approx(want[1], rel=1e-9)
    assert float(third.split()[-1]) == pytest.approx(want[1], rel=1e-10)
