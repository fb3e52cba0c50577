"""The same runs by other libraries, as functions with the signature of the twins.

Only where an implementation is exact and its conventions are ours; it is asked for in the terms of its own library.
"""

import numpy as np
import pytest


def optax(name, **arguments):
    """optax's transformation of that name, in float64."""

    def run(theta, gradient, eta, steps):
        pytest.importorskip("optax", reason="optax is one of the outside oracles; it needs JAX")
        import jax
        import optax

        assert jax.config.jax_enable_x64, "without x64 the oracle would be float32"
        transformation = getattr(optax, name)(learning_rate=lambda count: eta(count + 1), **arguments)
        theta = jax.numpy.asarray(theta)
        state = transformation.init(theta)
        for t in range(1, steps + 1):
            g = jax.numpy.asarray(gradient(t, np.asarray(theta)))
            update, state = transformation.update(g, state, theta)
            theta = optax.apply_updates(theta, update)
        return np.asarray(theta)

    return run


def torch(name, **arguments):
    """torch.optim's class of that name, in float64."""

    def run(theta, gradient, eta, steps):
        torch = pytest.importorskip("torch", reason="torch.optim is one of the outside oracles")
        variable = torch.tensor(theta, requires_grad=True)
        optimizer = getattr(torch.optim, name)([variable], lr=0.0, **arguments)
        for t in range(1, steps + 1):
            optimizer.param_groups[0]["lr"] = eta(t)
            variable.grad = torch.as_tensor(gradient(t, variable.detach().numpy()))
            optimizer.step()
        return variable.detach().numpy()

    return run
