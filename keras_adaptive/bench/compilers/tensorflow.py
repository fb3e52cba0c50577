"""The program of TensorFlow's update."""

import tensorflow as tf

from keras_adaptive.bench.compilers.jax import Program, compile_stablehlo

__all__ = ["Program", "program"]


def program(optimizer, variables, rows=None):
    rows = rows or {}
    optimizer.build(variables)

    described = []
    for place, variable in enumerate(variables):
        if place in rows:
            described.append(tf.TensorSpec((rows[place], *variable.shape[1:]), variable.dtype))
            described.append(tf.TensorSpec((rows[place],), "int32"))
        else:
            described.append(tf.TensorSpec(variable.shape, variable.dtype))

    def gradient(place, given):
        if place in rows:
            return tf.IndexedSlices(next(given), next(given), tf.constant(tuple(variables[place].shape)))
        return next(given)

    def step(*given):
        each = iter(given)
        optimizer.apply([gradient(place, each) for place in range(len(variables))], variables)

    # For a TPU the bridge refuses variables. Before any optimization, the program for a CPU is the same.
    compiled = tf.function(step, jit_compile=True, autograph=False)
    return compile_stablehlo(compiled.experimental_get_compiler_ir(*described)(stage="stablehlo", platform_name="CPU"))
