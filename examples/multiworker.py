"""`model.fit` on several worker processes."""

import tensorflow as tf

# The dtypes that the collective can sum; it refuses all others, even if only their shapes are needed.
ADDED = (tf.bfloat16, tf.float16, tf.float32, tf.float64, tf.int32, tf.int64)


class MultiWorkerStrategy(tf.distribute.MultiWorkerMirroredStrategy):
    """TensorFlow's MultiWorkerMirroredStrategy, with a `reduce` that Keras's `fit` can call.

    Keras 3.15.1 passes it a full batch, a tuple of values, to find the shapes, and scalars (the metrics) with axis=0
    (keras#20585). MirroredStrategy accepts the former. TensorFlow's strategy accepts neither, and no uint8 images. Here
    each value of a structure is reduced separately, a scalar only over the replicas, and small integers as int32.
    """

    def reduce(self, reduce_op, value, axis):
        def one(value):
            tensors = self.experimental_local_results(value)
            along = None if tensors[0].shape.rank == 0 else axis
            dtype = tensors[0].dtype
            if dtype in ADDED:
                return super(MultiWorkerStrategy, self).reduce(reduce_op, value, axis=along)
            wide = self._widened(value)
            return tf.cast(super(MultiWorkerStrategy, self).reduce(reduce_op, wide, axis=along), dtype)

        return tf.nest.map_structure(one, value)

    @tf.function
    def _widened(self, value):
        return self.run(lambda tensor: tf.cast(tensor, tf.int32), args=(value,))
