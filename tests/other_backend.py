"""Training that starts under one backend and continues under another. As a script, the second half."""

import sys
from pathlib import Path

import keras
from support import descend, values

OPTIONS = {"use_ema": True, "gradient_accumulation_steps": 2, "clipnorm": 0.5}


def model_of(case):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    model.compile(optimizer=case.make(**OPTIONS), loss="mse")
    model.optimizer.build(model.trainable_variables)
    return model


def begin(case, folder):
    model = model_of(case)
    descend(model.optimizer, model.trainable_variables, 0, 5)
    model.save_weights(Path(folder) / f"{case.name}.weights.h5")


def go_on(case, folder):
    model = model_of(case)
    model.load_weights(Path(folder) / f"{case.name}.weights.h5")
    assert model.optimizer.restored.complete
    descend(model.optimizer, model.trainable_variables, 5, 10)
    return values([*model.variables, *model.optimizer.variables])


if __name__ == "__main__":
    import numpy as np
    from cases import CASES

    for case in CASES:
        np.savez(Path(sys.argv[1]) / f"{case.name}-end.npz", *go_on(case, sys.argv[1]))
