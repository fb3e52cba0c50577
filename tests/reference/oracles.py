"""The same runs by other libraries, as functions with the signature of the twins.

Only implementations that are exact and share our conventions; each is called with its library's arguments.
"""

from operator import attrgetter

import numpy as np
import pytest


def optax(name, **arguments):
    """optax's transformation of that name, "contrib." before it if it is there, in float64."""

    def run(theta, gradient, eta, steps):
        pytest.importorskip("optax", reason="optax is one of the outside oracles; it needs JAX")
        import jax
        import optax.contrib

        assert jax.config.jax_enable_x64, "without x64 the oracle would be float32"
        transformation = attrgetter(name)(optax)(learning_rate=lambda count: eta(count + 1), **arguments)
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
        return _by_torch(getattr(torch.optim, name), {"lr": 0.0, **arguments}, theta, gradient, eta, steps)

    return run


def pytorch_optimizer(name, **arguments):
    """pytorch_optimizer's class of that name, in float64; an `lr` is the number that the schedule is measured by."""

    def run(theta, gradient, eta, steps):
        library = pytest.importorskip("pytorch_optimizer", reason="pytorch_optimizer is one of the outside oracles")
        return _by_torch(getattr(library, name), {"lr": 1.0, **arguments}, theta, gradient, eta, steps)

    return run


def _by_torch(optimizer, arguments, theta, gradient, eta, steps):
    import torch

    usual = torch.get_default_dtype()
    # NAdam keeps its product of momenta in the default dtype.
    torch.set_default_dtype(torch.float64)
    try:
        variable = torch.tensor(theta, requires_grad=True)
        optimizer = optimizer([variable], **arguments)
        for t in range(1, steps + 1):
            optimizer.param_groups[0]["lr"] = eta(t)
            variable.grad = torch.tensor(gradient(t, variable.detach().numpy()))
            optimizer.step()
        return variable.detach().numpy()
    finally:
        torch.set_default_dtype(usual)
