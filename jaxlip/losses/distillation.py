"""Learning from another model's outputs (Hinton, Vinyals and Dean, 2015): soft targets, over what is real alone."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def divergence(
    teacher_BXK: Float[Array, "B *X K"],
    student_BXK: Float[Array, "B *X K"],
    real_BX: Bool[Array, "B *X"],
    *,
    temperature: float = 1.0,
) -> Float[Array, " B"]:
    """KL(teacher || student) in nats of the softened classes, times temperature squared, of every example.

    The mean over an example's real steps; 0 where it has none. Times temperature squared so that its gradient is as
    large at any temperature (equation 4 there). float32.
    """
    teacher_BXK, student_BXK = (logits.astype(jnp.float32) / temperature for logits in (teacher_BXK, student_BXK))
    log_p_BXK, log_q_BXK = (jax.nn.log_softmax(logits, axis=-1) for logits in (teacher_BXK, student_BXK))
    kl_BX = jnp.sum(jnp.exp(log_p_BXK) * (log_p_BXK - log_q_BXK), axis=-1)
    axes = tuple(range(1, kl_BX.ndim))
    total_B = jnp.sum(jnp.where(real_BX, kl_BX, 0), axis=axes)
    return temperature**2 * total_B / jnp.maximum(jnp.sum(real_BX, axis=axes), 1)
