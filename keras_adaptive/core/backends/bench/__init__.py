"""What a measurement of updates needs of a backend; imported by `keras_adaptive.bench` alone.

Each module of this package offers the same names; the one of the running Keras backend is imported, no other.

    FORMS                                   by name, the ways to run a Keras optimizer's update: whether the caller
                                            compiles it; the first is that of Keras's `fit`
    device()                                what updates run on, in words
    gradient(shape, seed)                   a dense gradient of normal numbers
    gradient_of_rows(shape, ids, seed)      the gradient of an embedding table that was looked up at these ids
    update(optimizer, variables, gradients, jit_compile)
                                            an Update: of the variables by a Keras optimizer that is built
    other_library(name)                     which other library has an optimizer of that name; None if none is there
    other(name, settings, variables, gradients)
                                            the same by the other library's optimizer
    triad(elements)                         an Update that makes a + s b of two float32 arrays, in place of a

An Update owns the variables that it was given: under JAX their values are gone after the first step. It is called to
take one step and returns when the step is done. Its `extra_bytes()` takes one more step and says
how much memory that takes besides weights, gradients and state, or None where that is not known. The Update of another
library has `state_bytes`.
"""

import keras

if keras.backend.backend() == "tensorflow":
    from keras_adaptive.core.backends.bench.tensorflow import *  # noqa: F403
elif keras.backend.backend() == "jax":
    from keras_adaptive.core.backends.bench.jax import *  # noqa: F403
else:
    from keras_adaptive.core.backends.bench.torch import *  # noqa: F403
