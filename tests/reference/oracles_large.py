"""Runs by other libraries over several variables at once, as functions with the signature of the coupled twins."""

from operator import attrgetter

import numpy as np
import pytest


def single(coupled):
    """The same run of one variable, with the signature of the other twins."""

    def run(theta, gradient, eta, steps):
        return coupled([theta], lambda t, thetas: [gradient(t, thetas[0])], eta, steps)[0]

    return run


def pytorch_optimizer(name, average=False, **arguments):
    """pytorch_optimizer's class of that name, in float64; the average is what its `eval` puts in the variables."""

    def run(thetas, gradients, eta, steps):
        library = pytest.importorskip("pytorch_optimizer", reason="pytorch_optimizer is one of the outside oracles")
        import torch

        usual = torch.get_default_dtype()
        # Prodigy and D-Adaptation sum in the default dtype.
        torch.set_default_dtype(torch.float64)
        try:
            variables = [torch.tensor(theta, requires_grad=True) for theta in thetas]
            optimizer = getattr(library, name)(variables, lr=1.0, **arguments)
            for t in range(1, steps + 1):
                optimizer.param_groups[0]["lr"] = eta(t)
                values = [variable.detach().numpy() for variable in variables]
                for variable, g in zip(variables, gradients(t, values), strict=True):
                    variable.grad = torch.tensor(g)
                optimizer.step()
            if average:
                optimizer.eval()
            return [variable.detach().numpy() for variable in variables]
        finally:
            torch.set_default_dtype(usual)

    return run


def optax(name, constant=False, average=False, **arguments):
    """optax's transformation of that name, "contrib." before it if it is there; constant if it takes no schedule."""

    def run(thetas, gradients, eta, steps):
        _import_optax()
        import optax.contrib

        rate = eta(1) if constant else lambda count: eta(count + 1)
        transformation = attrgetter(name)(optax)(learning_rate=rate, **arguments)
        thetas, state = _by_optax(transformation, thetas, gradients, steps)
        if average:
            thetas = [np.asarray(x) for x in optax.contrib.schedule_free_eval_params(state, thetas)]
        return thetas

    return run


def optax_chain(links):
    """A chain of optax's own links, then the learning rate; `links(optax, of_matrices)` gives their list.

    `of_matrices` is a mask: true for the variables that are no vectors.
    """

    def run(thetas, gradients, eta, steps):
        optax = _import_optax()
        rate = optax.scale_by_learning_rate(lambda count: eta(count + 1))
        of_matrices = [np.ndim(theta) > 1 for theta in thetas]
        links_and_rate = [rate if link is None else link for link in links(optax, of_matrices)]
        return _by_optax(optax.chain(*links_and_rate), thetas, gradients, steps)[0]

    return run


def keras_optimizer(name, **arguments):
    """Keras's class of that name, with a float64 variable."""

    def run(thetas, gradients, eta, steps):
        import keras

        variables = [keras.Variable(theta, dtype="float64") for theta in thetas]
        optimizer = getattr(keras.optimizers, name)(learning_rate=0.0, **arguments)
        optimizer.build(variables)
        for t in range(1, steps + 1):
            optimizer.learning_rate = eta(t)
            values = [keras.ops.convert_to_numpy(variable) for variable in variables]
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients(t, values)], variables)
        return [keras.ops.convert_to_numpy(variable) for variable in variables]

    return run


def _import_optax():
    pytest.importorskip("optax", reason="optax is one of the outside oracles; it needs JAX")
    import jax
    import optax

    assert jax.config.jax_enable_x64, "without x64 the oracle would be float32"
    return optax


def _by_optax(transformation, thetas, gradients, steps):
    import jax
    import optax

    @jax.jit
    def step(g, state, thetas):
        update, state = transformation.update(g, state, thetas)
        return optax.apply_updates(thetas, update), state

    thetas = [jax.numpy.asarray(theta) for theta in thetas]
    state = transformation.init(thetas)
    for t in range(1, steps + 1):
        g = gradients(t, [np.asarray(theta) for theta in thetas])
        thetas, state = step(g, state, thetas)
    return [np.asarray(theta) for theta in thetas], state
