"""Runs by other libraries over several variables at once, as functions with the signature of the coupled twins."""

from operator import attrgetter

import numpy as np
import pytest


def single(coupled):
    """The same run of one variable, with the signature of the other twins; `together` runs several at once."""

    def run(theta, gradient, eta, steps):
        return coupled([theta], lambda t, thetas: [gradient(t, thetas[0])], eta, steps)[0]

    run.together = coupled
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


def optax(name, average=False, **arguments):
    """optax's transformation of that name, "contrib." before it if it is there, in float64."""

    def run(thetas, gradients, eta, steps):
        library = _import_optax()

        def make(rate):
            return attrgetter(name)(library)(learning_rate=rate, **arguments)

        thetas, state = _by_optax(make, thetas, gradients, eta, steps)
        return library.contrib.schedule_free_eval_params(state, thetas) if average else thetas

    return run


def optax_chain(links):
    """A chain of optax's own transformations: `links(optax, rate, of_matrices)` gives them.

    `rate` is the one that multiplies by the learning rate, `of_matrices` is true for the variables that are no vectors.
    """

    def run(thetas, gradients, eta, steps):
        library = _import_optax()
        of_matrices = [np.ndim(theta) > 1 for theta in thetas]

        def make(rate):
            return library.chain(*links(library, library.scale_by_learning_rate(rate), of_matrices))

        return _by_optax(make, thetas, gradients, eta, steps)[0]

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
    import optax.contrib

    assert jax.config.jax_enable_x64, "without x64 the oracle would be float32"
    return optax


def _by_optax(make, thetas, gradients, eta, steps):
    """The schedule is looked up here: optax would count the updates, and not all of it from the same number."""
    import jax
    import optax

    @jax.jit
    def step(rate, g, state, thetas):
        update, state = make(lambda count: rate).update(g, state, thetas)
        return optax.apply_updates(thetas, update), state

    thetas = [jax.numpy.asarray(theta) for theta in thetas]
    state = make(lambda count: 0.0).init(thetas)
    for t in range(1, steps + 1):
        g = gradients(t, [np.asarray(theta) for theta in thetas])
        thetas, state = step(eta(t), g, state, thetas)
    return [np.asarray(theta) for theta in thetas], state
