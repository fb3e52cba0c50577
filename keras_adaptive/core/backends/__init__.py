"""The few things that TensorFlow, JAX and torch do differently, behind one set of names.

The modules with the names of backends offer the same functions; the one of the running Keras backend is imported. What
begins with a backend's name is a part of it.

    HAS_ROWS                               whether an update of some rows of a table alone is carried out
    read(variable, ids=None)               the value as a tensor, or those of its rows with these ids
    assign(variable, value, ids=None)      sets it, or these rows: ids may repeat, with equal values
    is_sparse(gradient)                    a gradient that holds some rows only
    rows_and_values(gradient)              the ids and the values of those rows
    occurrences(gradient)                  the ids of its rows, each as often as it was looked up; None if unknown
    known_shape(gradient)                  the shape, None for each length not known yet; None if nothing is
    mapped(function, gradient)             the function of every value that the gradient holds
    is_accelerated()                       whether there is any device but CPUs
    check_context(optimizer)               raises where the optimizer cannot be applied from here
    sum_over_replicas(gradients)           list to list; the sum over all replicas, known to each
    max_over_replicas(tensor)              the same with the maximum
    beside(variable)                       context in which a slot of that variable is made
    slot_layout(variable, shape, shard)    the layout of a slot of that shape, laid over the data-parallel devices if
                                           `shard`; raises where that cannot be
    matmul(a, b)                           the product of matrices with all digits of their dtype (on TensorFlow's GPU
                                           and TPU as its switch for TensorFloat-32 says)
    eigh(matrix)                           eigenvalues and eigenvectors of symmetric matrices, with all digits of their
                                           dtype; NaN where the matrix is not finite
    rarely(condition, function, usual)     the function's value; unless the condition, a scalar, holds, it is the usual
                                           one, which is taken where a branch costs less than the function
    jitted(cache, key, function)           the function, compiled where calling it op by op would be slower
    transact(transaction, go, gradients, scalars)
                                           reads, computes and assigns (core/transaction.py), nothing of it unless `go`
    outside_of_steps(optimizer)            context in which variables are made and assigned at once, not in a step
    snapshot(variable)                     its value as a tensor that stays when the variable changes, outside of a step
    assign_everywhere(target, source, projected)
                                           a variable or tensor to a variable, on every replica, outside of a step;
                                           the function of it, if there is one
    opaque(function)                       the function, not to be rewritten by a tracer of source code
"""

import keras

if keras.backend.backend() == "tensorflow":
    from keras_adaptive.core.backends.tensorflow import *  # noqa: F403
elif keras.backend.backend() == "jax":
    from keras_adaptive.core.backends.jax import *  # noqa: F403
elif keras.backend.backend() == "torch":
    from keras_adaptive.core.backends.torch import *  # noqa: F403
else:
    raise ImportError(
        "keras_adaptive trains on the Keras backends tensorflow, jax and torch. "
        f"Received: KERAS_BACKEND={keras.backend.backend()!r}"
    )
