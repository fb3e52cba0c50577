"""JAX: gradients are dense and already summed over devices, and everything is traced into the caller's program."""

import contextlib

import jax

__all__ = [
    "assign_everywhere",
    "beside",
    "check_context",
    "is_sparse",
    "jitted",
    "known_shape",
    "mapped",
    "max_over_replicas",
    "opaque",
    "outside_of_steps",
    "read",
    "rows_and_values",
    "sum_over_replicas",
    "transact",
]


def read(variable):
    return variable.value


def is_sparse(gradient):
    return False


def rows_and_values(gradient):
    raise TypeError(f"A JAX gradient has no rows of its own. Received: gradient={gradient!r}")


def known_shape(gradient):
    return tuple(gradient.shape)


def mapped(function, gradient):
    return function(gradient)


def check_context(optimizer):
    """Wherever JAX traces, the optimizer can be applied."""


def sum_over_replicas(gradients):
    return gradients


def max_over_replicas(tensor):
    return tensor


def beside(variable):
    return contextlib.nullcontext()


def jitted(cache, key, function):
    return function


def opaque(function):
    return function


def transact(transaction, go, gradients, scalars):
    variables = [transaction.variables(state) for state in transaction.states]
    old = [{role: read(variable) for role, variable in of_one.items()} for of_one in variables]

    def compute():
        return transaction.all(gradients, scalars, old)

    if go is True:
        new = compute()
    elif transaction.usually_goes:
        # In one pass: a `cond` would copy the weights and slots that it may have to keep.
        new = jax.tree.map(lambda after, before: jax.numpy.where(go, after, before), compute(), old)
    else:
        new = jax.lax.cond(go, compute, lambda: old)
    for of_one, values in zip(variables, new, strict=True):
        for role, variable in of_one.items():
            variable.assign(values[role])


def outside_of_steps(optimizer):
    return contextlib.nullcontext()


def assign_everywhere(target, source):
    target.assign(source)
