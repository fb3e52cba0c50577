"""`model.fit` on several worker processes."""

import tensorflow as tf


class MultiWorkerStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """TensorFlow's MultiWorkerMirroredStrategy, with a `reduce` that Keras's `fit` can call.

    Keras 3.15.1 hands it a whole batch, a tuple of values, to find its shapes, and scalars (the metrics) with axis=0
    (keras#20585).
    MirroredStrategy takes the first; this strategy takes neither. Here each value of a structure is reduced by itself,
    and a scalar over the replicas alone.
    """

    def reduce(self, reduce_op, value, axis):
        def one(value):
            ranks = {tensor.shape.rank for tensor in self.experimental_local_results(value)}
            return super(MultiWorkerStrategy, self).reduce(reduce_op, value, axis=None if ranks == {0} else axis)

        return tf.nest.map_structure(one, value)
