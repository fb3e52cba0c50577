"""Whether a class still computes what it computed when its results were made.

The numbers of a short training stand for the rule: a change that no number shows does not matter, and a change of
comments or of names leaves the results valid.
"""

import functools

import keras
import numpy as np
from keras import layers

from keras_adaptive.compare import backends
from keras_adaptive.compare.contenders import Contender, find

STEPS = 24


def numbers(contender: Contender) -> list[float]:
    """Two sums over the change of each variable after some steps with given gradients.

    Once for bare variables, once for a model whose layers decide what its variables are, with much weight decay.
    """
    random = np.random.default_rng(7)
    # Small weights, of which float32 shows small steps.
    bare = [
        keras.Variable(0.01 * random.normal(size=shape), name=name)
        for name, shape in {"kernel": (4, 3), "table": (3, 2), "bias": (3,)}.items()
    ]
    model = keras.Sequential(
        [keras.Input((4,)), layers.Embedding(5, 4), layers.Conv1D(3, 2), layers.GlobalMaxPooling1D(), layers.Dense(2)]
    )
    for variable in model.trainable_variables:
        variable.assign(0.1 * random.normal(size=variable.shape))
    with_decay = contender.make(model, weight_decay=3.0)
    return _changes(contender.make(), bare, random) + _changes(with_decay, model.trainable_variables, random)


def _changes(optimizer, variables, random):
    begin = [_numpy(variable) for variable in variables]
    optimizer.build(variables)
    step = backends.step(optimizer, variables)
    for t in range(STEPS):
        # From large to tiny, and some of them zero.
        sizes = 10.0 ** random.uniform(-4, 1, len(variables))
        gradients = [size * random.normal(size=v.shape) for size, v in zip(sizes, variables, strict=True)]
        gradients[0][t % 4] = 0.0
        step([keras.ops.convert_to_tensor(g.astype("float32")) for g in gradients])
    found = []
    for variable, old in zip(variables, begin, strict=True):
        change = (_numpy(variable) - old).ravel()
        found += [float(f"{change @ random.normal(size=change.size):.6g}") for _ in range(2)]
    return found


def _numpy(variable):
    return np.array(keras.ops.convert_to_numpy(variable), float)


def same(ours: list[float], theirs: list[float]) -> bool:
    """Whether they agree as well as float32 does on different machines, for each variable."""
    if len(ours) != len(theirs):
        return False
    pairs, others = np.reshape(ours, (-1, 2)), np.reshape(theirs, (-1, 2))
    sizes = np.abs(others).max(axis=1, keepdims=True)
    return bool((np.abs(pairs - others) <= 5e-3 * sizes).all())


@functools.cache
def now(name: str) -> list[float]:
    """The numbers of a contender as its class is now."""
    return numbers(find(name))
