"""Models of three kinds, compiled and trained for some steps without a loss, for tests of saving and loading."""

import keras
from keras import layers
from support import descend

EVERYTHING = {"use_ema": True, "gradient_accumulation_steps": 2, "skip_nonfinite": True, "weight_decay": 0.1}


class Subclassed(keras.Model):
    """Its attributes have another order than its layers, and it has its own variable."""

    def __init__(self):
        super().__init__()
        self.z = layers.Dense(4)
        self.a = layers.Dense(1)
        self.scale = self.add_weight(shape=(1,), initializer="ones", name="scale")

    def build(self, shape):
        self.z.build(shape)
        self.a.build((None, 4))
        self.built = True

    def call(self, x):
        return self.a(self.z(x)) * self.scale


def sequential(head=1):
    return keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(4), layers.Dense(head)])


def functional(head=1):
    x = keras.Input((3,))
    return keras.Model(x, layers.Dense(head)(layers.Dense(4)(layers.Dense(4)(x))))


def subclassed():
    model = Subclassed()
    model.build((None, 3))
    return model


def trained(model, optimizer, steps=5):
    """Compiled and built, after so many steps."""
    model.compile(optimizer=optimizer, loss="mse")
    optimizer.build(model.trainable_variables)
    descend(optimizer, model.trainable_variables, 0, steps)
    return model
