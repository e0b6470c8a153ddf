"""Masked batch normalisation, fused with the ReLU and dropout that follow it.

The three are one function with its own gradient: only the pre-activation is kept for the backward pass, the variance is
taken in two passes (the one-pass formula loses digits), and dropout's mask is a hash of the element's index that is
computed again instead of being stored.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, UInt32

EPSILON = 1e-5
MOMENTUM = 0.1
FRAME_MOMENTUM = 0.01


def on_one_cpu() -> bool:
    """Whether what is traced here runs on a CPU and is not split over several devices."""
    mesh = jax.sharding.get_abstract_mesh()
    return jax.default_backend() == "cpu" and (mesh.empty or mesh.size == 1)


def hashed_uniform(
    shape: tuple[int, ...], seed_2: UInt32[Array, " 2"], first: UInt32[Array, ""] | int = 0
) -> UInt32[Array, "..."]:
    """Uniform uint32 for every element of `shape`, from its index (from `first` on) and a seed (lowbias32, C. Wellons,
    2018).

    Cheap enough to be computed inside whatever uses it, and the same on any number of devices.
    """
    strides = np.cumprod((1, *shape[:0:-1]), dtype=np.uint32)[::-1]
    index = jnp.asarray(first, jnp.uint32)
    for axis, stride in enumerate(strides):
        index = index + jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * stride
    x = index * np.uint32(0x9E3779B9) + seed_2[0]
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15) ^ seed_2[1]) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def dropout_seed(key: Array, site: int) -> UInt32[Array, " 2"]:
    """The seed of one dropout site in one step."""
    return jax.random.bits(jax.random.fold_in(key, site), (2,), jnp.uint32)


@dataclasses.dataclass(frozen=True, eq=False)
class OwnRate:
    """A dropout rate of its own for every member of a population, which no program knows beforehand.

    Modules hold it as they hold a number, since it is hashable; it is of one trace alone, and computed where it is
    used, since modules are built inside of another one.
    """

    base: Float[Array, ""]
    factor: float = 1.0
    limit: float = 1.0

    @property
    def value(self) -> Float[Array, ""]:
        return jnp.minimum(self.base * self.factor, self.limit)


Rate = float | OwnRate


def scaled_rate(rate: Rate, factor: float, limit: float) -> Rate:
    """The rate times a factor, at the most `limit`."""
    return OwnRate(rate.base, factor, limit) if isinstance(rate, OwnRate) else min(rate * factor, limit)


def keep_mask(
    shape: tuple[int, ...],
    seed_2: UInt32[Array, " 2"],
    rate: float | Float[Array, ""],
    first: UInt32[Array, ""] | int = 0,
) -> Bool[Array, "..."]:
    """True with probability 1 - rate; of elements that are numbered from `first` on."""
    if isinstance(rate, jax.Array):
        # Below 1 as float32, so that it fits; a number that is known is cut off in the same way.
        return hashed_uniform(shape, seed_2, first) >= (rate.astype(jnp.float32) * 2.0**32).astype(jnp.uint32)
    threshold = int(np.float32(rate).astype(np.float64) * 2**32)
    return hashed_uniform(shape, seed_2, first) >= np.uint32(min(threshold, 2**32 - 1))


def dropout(x: Float[Array, "..."], seed_2: UInt32[Array, " 2"], rate: Rate) -> Float[Array, "..."]:
    """Inverted dropout with `hashed_uniform`."""
    if not isinstance(rate, OwnRate):
        return jnp.where(keep_mask(x.shape, seed_2, rate), x / (1 - rate), 0) if rate > 0 else x
    return jnp.where(keep_mask(x.shape, seed_2, rate.value), (x / (1 - rate.value)).astype(x.dtype), 0)


def _sum_over_nodes(of_node, *arrays_V):
    """The sum over nodes of what `of_node` gives for the slices of one.

    On a CPU one node after the other: what is reduced then lies in its cache, and the sums take a quarter of the time.
    """
    if len(arrays_V[0]) == 1 or not on_one_cpu():
        return jax.tree.map(lambda parts_V: parts_V.sum(axis=0), jax.vmap(of_node)(*arrays_V))

    def step(total, arrays):
        return jax.tree.map(jnp.add, total, of_node(*arrays)), None

    like = jax.eval_shape(of_node, *(array_V[0] for array_V in arrays_V))
    return jax.lax.scan(step, jax.tree.map(lambda sums: jnp.zeros(sums.shape, sums.dtype), like), arrays_V)[0]


def _at_each_node(of_node, *arrays_V):
    """What `of_node` gives for the slices of each node.

    On a CPU in a loop, which also computes it once: XLA would do it again for everything that uses it.
    """
    if on_one_cpu():
        return jax.lax.map(lambda arrays: of_node(*arrays), arrays_V)
    return jax.vmap(of_node)(*arrays_V)


def _moments(z_VFH, real_F):
    """Mean and biased variance [H] over all nodes of real frames, in two passes, and the number of elements; in float32
    or better, whatever z is."""
    kind = jnp.promote_types(z_VFH.dtype, jnp.float32)
    weight_F1 = real_F[:, None].astype(kind)
    n = jnp.maximum(weight_F1.sum(), 1) * z_VFH.shape[0]
    mean_H = _sum_over_nodes(lambda z_FH: jnp.sum(z_FH.astype(kind) * weight_F1, axis=0), z_VFH) / n

    def squares(z_FH):
        return jnp.sum(jnp.square(z_FH.astype(kind) - mean_H[None]) * weight_F1, axis=0)

    return mean_H, _sum_over_nodes(squares, z_VFH) / n, n


def _activate(z_XH, mean_H, inverse_H, scale_H, bias_H):
    """In the precision of the moments; what uses it goes back to that of z."""
    ones = (None,) * (z_XH.ndim - 1)
    return (z_XH - mean_H[ones]) * (inverse_H * scale_H)[ones] + bias_H[ones]


def norm_relu_dropout(z_VFH, real_F, scale_H, bias_H, seed_2, rate: Rate):
    """dropout(relu(batch_norm(z))) in training, zero in frames that are not real.

    z_VFH [V, F, H], real_F bool [F]. Returns the activations and the batch's mean and biased variance [H], through
    which no gradient flows.
    """
    known, own = (None, rate.value) if isinstance(rate, OwnRate) else (rate, None)
    return _norm_relu_dropout(z_VFH, real_F, scale_H, bias_H, seed_2, own, known)


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def _norm_relu_dropout(z_VFH, real_F, scale_H, bias_H, seed_2, own, known):
    outputs, _ = _norm_relu_dropout_forward(z_VFH, real_F, scale_H, bias_H, seed_2, own, known)
    return outputs


def _kept(shape, real_F, seed_2, rate, node=0):
    """Which elements of the nodes from `node` on are real and not dropped."""
    real = jnp.broadcast_to(real_F[:, None], shape)
    if not isinstance(rate, jax.Array) and rate == 0:
        return real
    return real & keep_mask(shape, seed_2, rate, node * (shape[-2] * shape[-1]))


def _norm_relu_dropout_forward(z_VFH, real_F, scale_H, bias_H, seed_2, own, known):
    rate = known if own is None else own
    mean_H, var_H, n = _moments(z_VFH, real_F)
    inverse_H = jax.lax.rsqrt(var_H + EPSILON)
    active_VFH = jnp.maximum(_activate(z_VFH, mean_H, inverse_H, scale_H, bias_H), 0)
    out_VFH = jnp.where(_kept(z_VFH.shape, real_F, seed_2, rate), active_VFH / (1 - rate), 0)
    residuals = (z_VFH, real_F, scale_H, bias_H, seed_2, own, mean_H, inverse_H, n)
    return (out_VFH.astype(z_VFH.dtype), mean_H, var_H), residuals


def _norm_relu_dropout_backward(known, residuals, cotangents):
    z_VFH, real_F, scale_H, bias_H, seed_2, own, mean_H, inverse_H, n = residuals
    rate = known if own is None else own
    d_out_VFH, real_F1 = cotangents[0], real_F[:, None]
    nodes_V = jnp.arange(len(z_VFH), dtype=jnp.uint32)

    def active(z_FH, d_out_FH, node):
        kept_FH = _kept(z_FH.shape, real_F, seed_2, rate, node)
        positive_FH = _activate(z_FH, mean_H, inverse_H, scale_H, bias_H) > 0
        return jnp.where(kept_FH & positive_FH, d_out_FH.astype(mean_H.dtype) / (1 - rate), 0)

    def sums(z_FH, d_out_FH, node):
        active_FH = active(z_FH, d_out_FH, node)
        return active_FH.sum(axis=0), jnp.sum(active_FH * (z_FH - mean_H[None]), axis=0)

    d_bias_H, d_product_H = _sum_over_nodes(sums, z_VFH, d_out_VFH, nodes_V)
    d_scale_H = d_product_H * inverse_H

    def d_z(z_FH, d_out_FH, node):
        # The batch's own mean and variance move with z: their share is taken off at every real element.
        through_moments_FH = (d_bias_H[None] + (z_FH - mean_H[None]) * (inverse_H * d_scale_H)[None]) / n
        own_FH = active(z_FH, d_out_FH, node) - jnp.where(real_F1, through_moments_FH, 0)
        return (own_FH * (scale_H * inverse_H)[None]).astype(z_FH.dtype)

    d_z_VFH = _at_each_node(d_z, z_VFH, d_out_VFH, nodes_V)
    return d_z_VFH, None, d_scale_H.astype(scale_H.dtype), d_bias_H.astype(bias_H.dtype), None, None


_norm_relu_dropout.defvjp(_norm_relu_dropout_forward, _norm_relu_dropout_backward)


class NormReluDropout(nnx.Module):
    """Batch normalisation over real elements, ReLU, dropout. Running moments as in PyTorch (momentum 0.1, unbiased)."""

    def __init__(self, features: int, *, rate: Rate, site: int):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.batches = nnx.BatchStat(jnp.zeros((), jnp.int32))
        self.rate = rate
        self.site = site

    def __call__(
        self, z_VFH: Float[Array, "V F H"], real_F: Bool[Array, " F"], key: Array | None
    ) -> Float[Array, "V F H"]:
        if key is None:
            inverse_H = jax.lax.rsqrt(self.var[...] + EPSILON)
            active_VFH = jnp.maximum(_activate(z_VFH, self.mean[...], inverse_H, self.scale[...], self.bias[...]), 0)
            return jnp.where(real_F[None, :, None], active_VFH, 0).astype(z_VFH.dtype)
        seed_2 = dropout_seed(key, self.site)
        args = (z_VFH, real_F, self.scale[...], self.bias[...], seed_2, self.rate)
        out_VFH, mean_H, var_H = norm_relu_dropout(*args)  # type: ignore[misc]
        n = real_F.sum() * z_VFH.shape[0]
        unbiased_H = var_H * (n / jnp.maximum(n - 1, 1))
        # A batch of padding alone says nothing about the data.
        rate = jnp.where(n > 0, MOMENTUM, 0)
        self.mean[...] = (1 - rate) * self.mean[...] + rate * mean_H
        self.var[...] = (1 - rate) * self.var[...] + rate * unbiased_H
        self.batches[...] = self.batches[...] + 1
        return out_VFH


class LayerReluDropout(nnx.Module):
    """Layer normalisation, ReLU, dropout; called as NormReluDropout is."""

    def __init__(self, features: int, *, rate: Rate, site: int):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.rate, self.site = rate, site

    def __call__(
        self, z_VFH: Float[Array, "V F H"], real_F: Bool[Array, " F"], key: Array | None
    ) -> Float[Array, "V F H"]:
        centred_VFH = z_VFH - z_VFH.mean(axis=-1, keepdims=True)
        inverse_VF1 = jax.lax.rsqrt(jnp.square(centred_VFH).mean(axis=-1, keepdims=True) + EPSILON)
        scaled_VFH = centred_VFH * inverse_VF1 * self.scale[...][None, None] + self.bias[...][None, None]
        active_VFH = jnp.where(real_F[None, :, None], jnp.maximum(scaled_VFH, 0), 0)
        return active_VFH if key is None else dropout(active_VFH, dropout_seed(key, self.site), self.rate)


NORMS = {"batch": NormReluDropout, "layer": LayerReluDropout}
"""What may stand behind a linear map."""


class BatchNorm(nnx.Module):
    """Batch normalisation [B, T, D] over real steps, with running moments as in NormReluDropout, and nothing behind it.

    What it gives for a step that is not real means nothing.
    """

    def __init__(self, features: int):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))

    def __call__(
        self, x_BTD: Float[Array, "B T D"], real_BT: Bool[Array, "B T"], key: Array | None
    ) -> Float[Array, "B T D"]:
        if key is None:
            mean_D, var_D = self.mean[...], self.var[...]
        else:
            mean_D, var_D, n = _moments(x_BTD.reshape(1, real_BT.size, -1), real_BT.reshape(-1))
            # A batch of padding alone says nothing about the data.
            rate = jnp.where(real_BT.any(), MOMENTUM, 0)
            unbiased_D = jax.lax.stop_gradient(var_D) * (n / jnp.maximum(n - 1, 1))
            self.mean[...] = (1 - rate) * self.mean[...] + rate * jax.lax.stop_gradient(mean_D)
            self.var[...] = (1 - rate) * self.var[...] + rate * unbiased_D
        inverse_D = jax.lax.rsqrt(var_D + EPSILON)
        return _activate(x_BTD, mean_D, inverse_D, self.scale[...], self.bias[...]).astype(x_BTD.dtype)


class FrameNorm(nnx.Module):
    """Every feature of a frame in units of its own spread over real frames; nothing is learned.

    Training and evaluation both use the running moments (the plain average of the first batches' moments, then an
    exponential one), so that a clip's output does not depend on its batch-mates.
    """

    def __init__(self, features: int):
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.batches = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def __call__(
        self, x_BTD: Float[Array, "B T D"], frames_BT: Bool[Array, "B T"], key: Array | None
    ) -> Float[Array, "B T D"]:
        if key is not None:
            self.update(x_BTD.reshape(1, frames_BT.size, -1), frames_BT.reshape(-1))
        normed_BTD = (x_BTD - self.mean[...][None, None]) * jax.lax.rsqrt(self.var[...] + EPSILON)[None, None]
        return jnp.where(frames_BT[..., None], normed_BTD, 0)

    def update(self, x_1FD: Float[Array, "1 F D"], real_F: Bool[Array, " F"]) -> None:
        mean_D, var_D, _ = _moments(x_1FD, real_F)
        # A batch of padding alone says nothing about the data.
        rate = jnp.where(real_F.any(), jnp.maximum(1 / (self.batches[...] + 1), FRAME_MOMENTUM), 0)
        self.mean[...] = (1 - rate) * self.mean[...] + rate * mean_D
        self.var[...] = (1 - rate) * self.var[...] + rate * var_D
        self.batches[...] = self.batches[...] + real_F.any()
