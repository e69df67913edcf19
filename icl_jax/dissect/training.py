"""Small parameters trained on a few more examples, with the model as it is: factors on attention, an output bias."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

_BIAS_STEPS, _BIAS_RATE = 500, 0.1  # far enough for biases of some ten nats


def train_on(
    loss: Callable[[Any, Int[Array, ""]], Float[Array, ""]],
    start: Any,
    order: Int[Array, "steps"],
    learning_rate: float,
) -> tuple[Any, Float[Array, "steps"]]:
    """Returns (parameters after all steps, the loss before each). loss: of parameters and the number of an example;
    order: the example of each step. Adam with its usual numbers, one example a step (Wang et al. 2023, appendix)."""
    adam = optax.adam(learning_rate)

    def step(state, example):
        params, moments = state
        value, grads = jax.value_and_grad(loss)(params, example)
        updates, moments = adam.update(grads, moments)
        return (optax.apply_updates(params, updates), moments), value

    (params, _), losses = jax.lax.scan(step, (start, adam.init(start)), order)
    return params, losses


def order_of(key: Key[Array, ""], num: int, epochs: int) -> Int[Array, "steps"]:
    """Returns a new order of the examples for each epoch, one after another."""
    keys = jax.random.split(key, epochs)
    return jnp.concatenate([jax.random.permutation(k, num) for k in keys])


def best_bias(logits: Float[Array, "n C"], gold: Int[Array, "n"]) -> Float[Array, "C"]:
    """Returns the bias of the classes with which the examples have the smallest mean cross-entropy. There is one where
    every class has an example, and training finds it: the loss is convex."""
    loss = lambda bias, _: jax.vmap(cross_entropy)(logits + bias[None], gold).mean()
    return train_on(loss, jnp.zeros(logits.shape[1]), jnp.zeros(_BIAS_STEPS, jnp.int32), _BIAS_RATE)[0]


def cross_entropy(logits: Float[Array, "C"], gold: Int[Array, ""]) -> Float[Array, ""]:
    """Returns the cross-entropy of the right class among the classes, in nats."""
    return jax.nn.logsumexp(logits) - logits[gold]
