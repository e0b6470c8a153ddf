"""m-heights from the raw entries of P by a network that has the symmetries of the problem, and learns its minors.

Every square submatrix of P up to 4 x 4, that is every set of k columns of [I | P], becomes a token. A 2 x 2 token is
made by one learned function of the entries' log magnitudes and of the sign of their product (all that signs of rows and
columns leave); a larger one is eliminated by its largest entry to the next smaller, as Gauss does, with learned
functions in place of arithmetic. Tokens then flow up the lattice of sets of columns (sets of k + 1 see their subsets of
k, and so on), and h_m is read where the sets have n - m columns. No determinant, basis or information-set form is
computed; permutations and signs of rows and columns do not change the output.
"""

import dataclasses
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from jaxlip.config import Component, require
from jaxlip.data.codes import CodeBatch, CodeSpec
from jaxlip.models.base import Model, from_nnx
from jaxlip.models.height_outputs import HeightOutputs
from jaxlip.models.linear import Linear
from jaxlip.models.set_pooling import Read, Up

LARGEST_BLOCK = 4
"""Larger submatrices get no token of their own."""
SMALLEST_ENTRY = 2.0**-4
KNEE = 2.0**-8
"""Where `_symlog` bends from linear to logarithmic."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnedMinors(Component):
    """The network's size."""

    width: int = 32
    """Features of a token."""

    def __post_init__(self):
        require(self.width >= 4 and self.width % 2 == 0, self, "width", "even and 4 or more")

    def build(self, spec: CodeSpec) -> Model:
        return from_nnx(lambda rngs: _LearnedMinors(self, spec, rngs))


class _Lattice(NamedTuple):
    """Submatrices as indices into the flat P, and how sets of columns contain each other."""

    blocks: tuple[np.ndarray, ...]
    """[N, s * s] of every size s = 2, 3, ... ."""
    untold: int
    """Sets of k columns beyond those of tokens."""
    levels: tuple[np.ndarray, ...]
    """[sets of k + 1 + i columns, k + 1 + i]: their subsets among the tokens below."""


@functools.cache
def _lattice(k: int, n: int) -> _Lattice:
    r, sizes = n - k, range(min(k, n - k) + 1)
    pairs = [
        (rows, columns)
        for size in sizes
        for rows in itertools.combinations(range(k), size)
        for columns in itertools.combinations(range(r), size)
    ]
    blocks = [
        np.array([[i * r + j for i in rows for j in columns] for rows, columns in pairs if len(rows) == size])
        for size in sizes
        if 2 <= size <= LARGEST_BLOCK
    ]
    # The set of columns whose minor this is: the identity's without those of the rows, and P's.
    sets = [tuple(i for i in range(k) if i not in rows) + tuple(k + j for j in columns) for rows, columns in pairs]
    place, levels = {of: i for i, of in enumerate(sets)}, []
    for size in range(k + 1, n + 1):
        larger = list(itertools.combinations(range(n), size))
        levels.append(np.array([[place[of[:i] + of[i + 1 :]] for i in range(size)] for of in larger]))
        place = {of: i for i, of in enumerate(larger)}
    return _Lattice(tuple(blocks), sum(len(rows) > LARGEST_BLOCK for rows, _ in pairs), tuple(levels))


def _symlog(x: Array) -> Array:
    return jnp.sign(x) * jnp.log2(1 + jnp.abs(x) / KNEE) / 8


def _bend(x: Array) -> Array:
    """Half of the features rectified; half logarithmic, so that near cancellations stand out."""
    straight, near = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([jax.nn.relu(straight), _symlog(near)], axis=-1)


class _Eliminate(nnx.Module):
    """What is left of a 2 x 2 block's corners a, b, c, d: symmetric under exchanging its rows or its columns."""

    def __init__(self, fan_in: int, width: int, rngs: nnx.Rngs):
        self.parity = Linear(fan_in, width, rngs=rngs)
        self.difference = Linear(fan_in + width + 1, 2 * width, rngs=rngs)
        self.out = Linear(2 * width, width, rngs=rngs)
        self.sum = Linear(fan_in + width, width, rngs=rngs)

    def __call__(self, corners: tuple[Array, ...], sign: Array) -> Array:
        """Corners [..., D] and the sign of their product [..., 1] to [..., H]."""
        a, b, c, d = corners
        parity = sign * functools.reduce(jnp.multiply, (jnp.tanh(self.parity(x)) for x in corners))
        main, other = a + d, b + c
        bent = [
            _bend(self.difference(jnp.concatenate([x - y, parity, sign], axis=-1)))
            for x, y in ((main, other), (other, main))
        ]
        return self.out(bent[0] + bent[1]) + self.sum(jnp.concatenate([main + other, parity], axis=-1))


class _Corners(nnx.Module):
    """The first elimination, from log magnitudes [..., 4] of a 2 x 2 block and the sign of its product [..., 1]."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.first = Linear(5, 2 * width, rngs=rngs)
        self.second = Linear(2 * width, width, rngs=rngs)

    def __call__(self, logs: Array, sign: Array) -> Array:
        a, b, c, d = (logs[..., i : i + 1] for i in range(4))
        bent = [_bend(self.first(jnp.concatenate([*x, sign], axis=-1))) for x in ((a, d, b, c), (b, c, a, d))]
        return jax.nn.relu(self.second(bent[0] + bent[1]))


class _Blocks(nnx.Module):
    """Tokens of square submatrices from their entries."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.entry_in = Linear(1, width, rngs=rngs)
        self.entry_out = Linear(width, width, rngs=rngs)
        self.corners = _Corners(width, rngs)
        self.pair_out = Linear(width, width, rngs=rngs)
        self.third = _Eliminate(width, width, rngs)
        self.fourth = _Eliminate(width, width, rngs)
        self.pivot = Linear(1, width, rngs=rngs)

    def __call__(self, logs_EB: Array, signs_EB: Array, lattice: _Lattice) -> list[Array]:
        """[N, B, H] for every size from 1 on."""
        tokens = [self.entry_out(_bend(self.entry_in(logs_EB[..., None])))]
        for index_NS in lattice.blocks:
            size = round(index_NS.shape[1] ** 0.5)
            logs, signs = _pivoted(logs_EB[index_NS], signs_EB[index_NS], size)
            if size == 2:
                sign = signs[:, 0, 0] * signs[:, 0, 1] * signs[:, 1, 0] * signs[:, 1, 1]
                corners = jnp.stack([logs[:, i, j] for i in (0, 1) for j in (0, 1)], axis=-1)
                tokens.append(self.pair_out(self.corners(corners, sign[..., None])))
                continue
            grid = self._first(logs, signs)
            for level, eliminate in zip(range(1, size - 1), (self.third, self.fourth), strict=False):
                grid = _next(grid, signs, level, eliminate)
            tokens.append(grid[0][0] + self.pivot(logs[:, 0, 0, :, None]))
        return tokens

    def _first(self, logs: Array, signs: Array) -> list[list[Array]]:
        """The grid of what the pivot at (0, 0) leaves of every other row and column."""
        size, cells = logs.shape[1], []
        for i, j in itertools.product(range(1, size), repeat=2):
            block = [(0, 0), (0, j), (i, 0), (i, j)]
            corners = jnp.stack([logs[:, x, y] for x, y in block], axis=-1)
            sign = functools.reduce(jnp.multiply, (signs[:, x, y] for x, y in block))
            cells.append((corners, sign[..., None]))
        # One product for all cells.
        left = self.corners(jnp.stack([c for c, _ in cells]), jnp.stack([s for _, s in cells]))
        return [[left[(i - 1) * (size - 1) + j - 1] for j in range(1, size)] for i in range(1, size)]


def _next(grid: list[list[Array]], signs: Array, level: int, eliminate: _Eliminate) -> list[list[Array]]:
    """One row and column less."""
    left = []
    for i in range(1, len(grid)):
        row = []
        for j in range(1, len(grid)):
            block = [(level, level), (level, level + j), (level + i, level), (level + i, level + j)]
            sign = functools.reduce(jnp.multiply, (signs[:, x, y] for x, y in block))
            row.append(eliminate((grid[0][0], grid[0][j], grid[i][0], grid[i][j]), sign[..., None]))
        left.append(row)
    return left


def _pivoted(logs_NSB: Array, signs_NSB: Array, size: int) -> tuple[Array, Array]:
    """Blocks as [N, size, size, B], rows and columns turned so that the entry of largest magnitude comes first."""
    places = np.arange(size * size).reshape(size, size)
    turned = np.stack([np.roll(places, (-i, -j), (0, 1)).reshape(-1) for i in range(size) for j in range(size)])
    order_NSB = jnp.moveaxis(jnp.asarray(turned)[logs_NSB.argmax(axis=1)], -1, 1)
    square = (len(logs_NSB), size, size, logs_NSB.shape[-1])
    logs, signs = (jnp.take_along_axis(x, order_NSB, axis=1).reshape(square) for x in (logs_NSB, signs_NSB))
    return logs, signs


class _LearnedMinors(nnx.Module):
    def __init__(self, config: LearnedMinors, spec: CodeSpec, rngs: nnx.Rngs):
        width = config.width
        sizes = max(min(k, spec.n - k) for k in spec.ks) + 1
        levels = max(spec.n - k - m + 1 for k, m in spec.groups)
        self.spec = spec
        self.blocks = _Blocks(width, rngs)
        self.kinds = nnx.Param(0.1 * jax.random.normal(rngs.params(), (sizes, len(spec.ks), width)))
        self.context = Linear(width, width, rngs=rngs)
        self.up = nnx.List([Up(width, rngs) for _ in range(levels)])
        self.read = nnx.List([Read(width, rngs) for _ in spec.groups])

    def __call__(self, batch: CodeBatch, key: Array | None) -> HeightOutputs:
        del key
        places = zip(self.spec.ks, batch.matrices, strict=True)
        by_group = {
            group: log2_B for i, (k, P) in enumerate(places) for group, log2_B in self._heights(P, k, i).items()
        }
        mean_1G = jnp.array(self.spec.mean_log2)[None]
        return HeightOutputs(jnp.stack([by_group[group] for group in self.spec.groups], axis=1) + mean_1G, None)

    def _heights(self, P_BKR: Array, k: int, place: int) -> dict[tuple[int, int], Any]:
        n, B = self.spec.n, len(P_BKR)
        lattice = _lattice(k, n)
        entries_EB = P_BKR.reshape(B, -1).T
        logs_EB = jnp.log2(jnp.maximum(jnp.abs(entries_EB), SMALLEST_ENTRY)) / 3 - 1
        tokens = self.blocks(logs_EB, jnp.where(entries_EB < 0, -1.0, 1.0), lattice)
        width = tokens[0].shape[-1]
        tokens = [jnp.zeros((1, B, width)), *tokens]
        tokens_NBH = jnp.concatenate([t + self.kinds[size, place][None, None] for size, t in enumerate(tokens)])
        mean_1BH = tokens_NBH.mean(axis=0, keepdims=True)
        tokens_NBH = jnp.concatenate([tokens_NBH, jnp.repeat(mean_1BH, lattice.untold, axis=0)])
        tokens_NBH = tokens_NBH + self.context(mean_1BH)
        found = {}
        for level, subsets_NI in enumerate(lattice.levels):
            wanted = [(i, m) for i, (group_k, m) in enumerate(self.spec.groups) if group_k == k and m <= n - k - level]
            if not wanted:
                break
            tokens_NBH = self.up[level](tokens_NBH, subsets_NI, lowest=level == 0)
            found.update({(k, m): self.read[i](tokens_NBH) for i, m in wanted if m == n - k - level})
        return found
