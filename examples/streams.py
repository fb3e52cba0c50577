"""Batches for `fit` from any step on; every replica and worker reads its part once.

A batch is a function of its number: `read(number, part, parts)` returns the part of that batch for one of `parts`
replicas. So a resumed training continues with the number at which it stopped, and needs no saved iterator.

Do not pass a Python generator to `fit` under tf.distribute: Keras makes two iterators there, and the batches that the
first one has read ahead are lost.
"""

import collections
import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import keras


def stream(read, first, last):
    """The batches from number `first` to `last` - 1, for training. Call it in the scope of the devices.

    `read` returns a tuple of NumPy arrays, always of the same shapes, and is called in several threads.
    """
    if keras.backend.backend() == "tensorflow":
        return by_replica(_reader(read), first, last)
    return in_order(read, range(first, last))


def repeated(read, count):
    """The first `count` batches in every epoch, for the test. Tell `fit` the count as `validation_steps`."""
    if keras.backend.backend() == "tensorflow":
        return by_replica(_reader(read), 0, count, repeat=True)
    return _Batches(read, count)


def by_replica(parts_of, first, last, repeat=False):
    """The same with tf.data: `parts_of(numbers, parts, total)` makes a dataset of those parts of the batches.

    A worker reads only the parts of its own replicas, so TensorFlow need not shard automatically. Data that are read
    again in every epoch must `repeat`, because `evaluate` takes a batch before it starts again.
    """
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        return parts_of(range(first, last), range(1), 1).prefetch(tf.data.AUTOTUNE)

    def of_worker(context):
        total = context.num_replicas_in_sync
        own = total // context.num_input_pipelines
        begin = context.input_pipeline_id * own
        parts = parts_of(range(first, last), range(begin, begin + own), total)
        return (parts.repeat() if repeat else parts).prefetch(tf.data.AUTOTUNE)

    return tf.distribute.get_strategy().distribute_datasets_from_function(of_worker)


def _reader(read):
    """A `parts_of` that calls `read` in the threads of tf.data."""
    import tensorflow as tf

    def parts_of(numbers, parts, total):
        like = read(numbers[0], parts[0], total)

        def one(i):
            number, part = i // len(parts), parts[0] + i % len(parts)
            arrays = tf.numpy_function(
                lambda number, part: read(int(number), int(part), total), (number, part), [each.dtype for each in like]
            )
            return tuple(tf.ensure_shape(values, each.shape) for values, each in zip(arrays, like, strict=True))

        positions = tf.data.Dataset.range(numbers.start * len(parts), numbers.stop * len(parts))
        return positions.map(one, tf.data.AUTOTUNE, deterministic=True)

    return parts_of


def in_order(read, numbers, ahead=16):
    """The same as a generator; batches are made ahead by as many threads as there are cores."""
    numbers = iter(numbers)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        begun = collections.deque(threads.submit(read, number, 0, 1) for number in itertools.islice(numbers, ahead))
        while begun:
            batch = begun.popleft().result()
            begun.extend(threads.submit(read, number, 0, 1) for number in itertools.islice(numbers, 1))
            yield batch


class _Batches(keras.utils.PyDataset):
    """The same for every epoch. Not for training: Keras would pass an epoch what it read ahead in the last one."""

    def __init__(self, read, count):
        super().__init__(workers=os.cpu_count() or 1, max_queue_size=16)
        self.read, self.count = read, count

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        return self.read(number, 0, 1)
