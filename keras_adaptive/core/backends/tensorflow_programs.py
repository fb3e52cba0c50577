"""The update on TensorFlow: programs that XLA compiles inside the user's graph.

Operation by operation, an update passes over the memory once per operation. XLA makes one loop of it and writes in
place. A program takes the variables themselves as arguments; with their values, the new values would be new buffers.

A table of which some rows are updated has a separate program, which is compiled again for every number of lookups
(`tensorflow.lookups` makes them few). With replicas each variable has a separate program, because the assignment has to
go through the strategy, variable by variable.
"""

import tensorflow as tf

from keras_adaptive.core.backends import tensorflow_parts
from keras_adaptive.core.backends.tensorflow_variables import raw, read, read_in_program


def is_accelerated():
    return any(found.device_type != "CPU" for found in tf.config.list_physical_devices())


def jitted(cache, key, function):
    if key not in cache:
        cache[key] = tf.function(function, jit_compile=True, autograph=False)
    return cache[key]


def transact(transaction, go, gradients, scalars):
    scalars = {name: tf.convert_to_tensor(value) for name, value in scalars.items()}
    variables = [
        {role: raw(variable) for role, variable in transaction.variables(state).items()} for state in transaction.states
    ]
    common = {name: raw(variable) for name, variable in transaction.common.items()}
    if tf.distribute.has_strategy():
        _transact_replicated(transaction, go, gradients, scalars, variables, common)
    else:
        tables = transaction.tables(gradients)

        def update(variables, gradients, scalars, common, tables):
            dense = [{} if place in tables else of_one for place, of_one in enumerate(variables)]
            shared = _dense(transaction, dense, gradients, scalars, common)
            for place, gradient in tables.items():
                _one(transaction, transaction.states[place])(variables[place], gradient, scalars, shared)

        _if(go, update, variables, transaction.without_rows(gradients), scalars, common, tables)


def _dense(transaction, variables, gradients, scalars, common):
    """Runs the transaction for the variables with dense gradients; returns what is shared."""
    divides = transaction.compilable and transaction.passes_again and not is_accelerated()
    parts = tensorflow_parts.found(transaction, variables, gradients, scalars) if divides else []
    if len(parts) < 2:
        return _whole(transaction)(variables, gradients, scalars, common)
    # Values are read only if numbers for all variables together need them.
    values = variables if common else [{} for _ in variables]
    shared = _measured(transaction)(values, gradients, scalars, common)
    # Until the last gradient is computed the backward pass reads weights, and writing them would copy them.
    before = [gradient for gradient in gradients if tf.is_tensor(gradient)]
    for part in parts:
        of_part = [variables[place] for place in part.places], [gradients[place] for place in part.places]
        named = {name: scalars[name] for name in part.scalars}
        with tf.control_dependencies(before):
            before = [_part(transaction, part)(*of_part, named, shared)]
    return shared


def _measured(transaction):
    """The function of all variables that returns what is shared."""

    def measured(variables, gradients, scalars, common):
        old, old_common = [_read(of_one) for of_one in variables], _read(common)
        shared, new_common = transaction.measure(gradients, transaction.clock(scalars), old, old_common)
        _assign(common, old_common, new_common)
        return shared

    return jitted(transaction.cache, "measured", measured)


def _part(transaction, part):
    """The transaction of some variables, after `_measured`; its result is available when it is done.

    Parts of like variables have one function, with the states of the first of these parts.
    """

    def of_part(variables, gradients, scalars, shared):
        for place, of_one, gradient in zip(part.places, variables, gradients, strict=True):
            if of_one:
                state = transaction.states[place]
                transaction.run_one(state, transaction.clock(scalars), shared, gradient, of_one)
        return scalars["t"]

    return jitted(transaction.cache, part.likes, of_part)


def _whole(transaction):
    """The transaction as one function of all variables; it returns what is shared."""

    def whole(variables, gradients, scalars, common):
        old, old_common = [_read(of_one) for of_one in variables], _read(common)
        new, new_common, shared = transaction.all(gradients, scalars, old, old_common)
        for of_one, before, after in zip(variables, old, new, strict=True):
            _assign(of_one, before, after)
        _assign(common, old_common, new_common)
        return shared

    return jitted(transaction.cache, "whole", whole) if transaction.compilable else whole


def _one(transaction, state):
    """The transaction as a function of one variable, or of those of its rows that have a gradient."""
    reading = read_in_program if transaction.compilable else read

    def one(variables, gradient, scalars, shared):
        transaction.run_one(state, transaction.clock(scalars), shared, gradient, variables, reading)

    return jitted(transaction.cache, state.index, one) if transaction.compilable else one


def _transact_replicated(transaction, go, gradients, scalars, variables, common):
    old = _read(common)
    # Values are read only if numbers for all variables together need them; in eager mode each read is a copy.
    values = [_read(of_one) if common else {} for of_one in variables]
    shared, new = transaction.measure(gradients, transaction.clock(scalars), values, old)
    for name, variable in common.items():
        variable.assign(tf.where(go, new[name], old[name]))

    def across_replicas(strategy, go, gradients, scalars, shared):
        def on_one_replica(first, of_one, single, go, gradient, scalars, shared):
            _if(go, single, of_one, gradient, scalars, shared)

        for state, of_one, gradient in zip(transaction.states, variables, gradients, strict=True):
            single = _one(transaction, state)
            first = next(iter(of_one.values()))
            arguments = (of_one, single, go, gradient, scalars, shared)
            strategy.extended.update(first, on_one_replica, args=arguments, group=False)

    tf.__internal__.distribute.interim.maybe_merge_call(
        across_replicas, tf.distribute.get_strategy(), go, gradients, scalars, shared
    )


def _if(go, function, *arguments):
    """Calls the function, for its assignments, if `go`."""
    if go is True:
        function(*arguments)
    else:
        tf.cond(go, lambda: (function(*arguments), True)[1], lambda: False)


def _read(variables):
    return {role: read(variable) for role, variable in variables.items()}


def _assign(variables, before, after):
    for role, variable in variables.items():
        if after[role] is not before[role]:
            variable.assign(after[role])
