"""How runs are computed. Only JAX can trace hyperparameters, so that one compiled step serves all runs."""

import keras


def step(optimizer, variables):
    """A function of gradients that updates the variables, compiled on JAX, where each step alone would be traced."""
    if keras.backend.backend() == "jax":
        from keras_adaptive.compare.backends import jax

        return jax.step(optimizer, variables)
    return lambda gradients: optimizer.apply(gradients, variables)
