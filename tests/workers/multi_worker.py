"""One of several workers of a MultiWorkerMirroredStrategy: runs the table of cases and writes its final values.

    TF_CONFIG=... python multi_worker.py DIRECTORY [plain]

`plain` takes TensorFlow's own strategy and Keras's own Adam through `fit`, and writes how that ends.
"""

import json
import os
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent), str(TESTS.parent / "examples")]
DIRECTORY, HOW = Path(sys.argv[1]), sys.argv[2:]
INDEX = json.loads(os.environ["TF_CONFIG"])["task"]["index"]


def table():
    """Every optimizer's weights and state, by a loop and by fit."""
    import numpy as np
    from cases import CASES
    from replicas import fitted, noisy_loop, spoilt_loop, strategy
    from support import OPTIONS, values

    assert strategy().num_replicas_in_sync == 2
    ends = {}

    def keep(name, weights, optimizer):
        for role, variables in (("weights", weights), ("state", optimizer.variables)):
            for index, value in enumerate(values(variables)):
                ends[f"{name}/{role}/{index}"] = value

    for case in CASES:
        for name, options in OPTIONS.items():
            loop = noisy_loop(case, options, replicated=True)
            keep(f"{case.name}/loop/{name}", loop.weights, loop.optimizer)
        loop = spoilt_loop(case, replicated=True, dtype="float32", loss_scale_factor="dynamic")
        keep(f"{case.name}/loop/spoilt", [*loop.weights, loop.optimizer.dynamic_scale], loop.optimizer)
        model = fitted(lambda case=case: case.make(**OPTIONS["everything"]))
        keep(f"{case.name}/fit/everything", model.trainable_variables, model.optimizer)
    np.savez(DIRECTORY / f"worker{INDEX}.npz", **ends)


def plain():
    """Keras's fit with nothing of ours."""
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    import keras
    from replicas import X, Y

    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile(optimizer="adam", loss="mse")
    try:
        model.fit(tf.data.Dataset.from_tensor_slices((X, Y)).batch(8), shuffle=False, verbose=0)
        end = "trained"
    except ValueError as error:
        end = f"ValueError: {error}"
    (DIRECTORY / f"worker{INDEX}.txt").write_text(end)


if __name__ == "__main__":
    import worlds

    os.environ.update(worlds.environment("tensorflow"))
    if HOW == ["plain"]:
        plain()
    else:
        # The strategy comes before anything else that TensorFlow does.
        import replicas
        from multiworker import MultiWorkerStrategy

        replicas.use(MultiWorkerStrategy())
        table()
