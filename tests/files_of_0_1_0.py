"""What version 0.1.0 saved, and where it went from there. As a script, run with that version, it makes the files:

    git worktree add ../of_0_1_0 824d860
    PYTHONPATH=../of_0_1_0 KERAS_BACKEND=tensorflow python tests/files_of_0_1_0.py tests/data/0.1.0

Of each row, after some steps: the model as `NAME.keras`, its weights and the optimizer's `get_state()` as `NAME.npz`,
both as `NAME.weights.h5`; `files` says which of them there are. `NAME-end.npz` has the weights after STEPS more. Where
0.1.0 chose the groups of a variable in another way, only the config can tell, so there is no other file. The gradients
depend on nothing but the step and the variable's place, so that a difference of rounding does not grow.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from keras.optimizers.schedules import ExponentialDecay
from support import compiled

import keras_adaptive as ka

STEPS = 4


def dense(dtype="float32"):
    return keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, activation="tanh", dtype=dtype, name="first"),
            layers.Dense(2, dtype=dtype, name="last"),
        ],
        name="net",
    )


def attention():
    """Kernels of three axes: attention's, and one whose layer has none of its names."""
    x = keras.Input((3, 4))
    y = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    y = layers.EinsumDense("btd,dnh->btnh", (None, 2, 3), bias_axes="nh", name="to_parts")(y)
    y = layers.Conv1D(2, 2, name="conv")(layers.Reshape((3, 6), name="flat")(y))
    return keras.Model(x, layers.Dense(2, name="last")(y), name="net")


def heads():
    x = keras.Input((3, 4))
    y = layers.EinsumDense("btd,dnh->btnh", (None, 2, 3), name="query")(x)
    return keras.Model(x, layers.Dense(2, name="last")(y), name="net")


def misnamed():
    """Layers whose names say what they are not."""
    ids = keras.Input((4,), dtype="int32")
    tokens = layers.ReversibleEmbedding(9, 4, tie_weights=False, name="tokens")
    y = layers.EinsumDense("btd,dnh->btnh", (None, 2, 3), bias_axes="nh", name="query")(tokens(ids))
    y = layers.LayerNormalization(axis=(1, 2), name="norm")(layers.Reshape((4, 6), name="flat")(y))
    return keras.Model(ids, tokens(layers.Dense(4, name="embeddings_out")(y), reverse=True), name="net")


def embedding_of_numbers():
    """A matrix that is large enough for eight bits."""
    layer = layers.Dense(64, use_bias=False, name="embedding_of_numbers")
    return keras.Sequential([keras.Input((64,)), layer], name="net")


def adam_with_groups(model):
    slow = ka.Group("first", learning_rate_multiplier=0.5, beta_2=0.99)
    return ka.Adam(0.05, weight_decay=0.1, groups=[ka.no_decay_on_vectors(), slow], clipnorm=0.5)


def adamw_with_schedules(model):
    decay = ExponentialDecay(0.3, 1, 0.5)
    optimizer = ka.AdamW(ExponentialDecay(0.1, 2, 0.9), weight_decay=decay, weight_decay_mode="independent")
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def muon(model):
    return ka.Muon(0.02, groups=ka.companion_groups(model), weight_decay=0.1)


@dataclass(frozen=True)
class Row:
    """One optimizer of 0.1.0, from a model; `unfrozen` in the middle of the steps before the files are saved."""

    make: Callable
    model: Callable = dense
    files: tuple[str, ...] = ("keras", "npz")
    before: int = 5
    unfrozen: bool = False


ROWS = {
    "adam_groups": Row(adam_with_groups, files=("keras",)),
    "adamw_schedules": Row(adamw_with_schedules),
    "adam_outside": Row(lambda model: ka.Adam(0.05, epsilon=0.0, epsilon_outside=1e-7), files=("keras",)),
    "adam_ema_bfloat16": Row(
        lambda model: ka.Adam(
            0.05, use_ema=True, ema_momentum=0.8, ema_overwrite_frequency=3, stochastic_rounding=True
        ),
        model=lambda: dense("bfloat16"),
    ),
    "adam_int8": Row(lambda model: ka.Adam(0.05, slot_dtype="int8", groups=[ka.Group("first", slot_dtype="int8")])),
    "adam_accumulation": Row(
        lambda model: ka.Adam(
            0.05, gradient_accumulation_steps=3, global_clipnorm=0.5, monitor=True, skip_nonfinite=True
        )
    ),
    "adam_extended": Row(lambda model: ka.Adam(0.05, weight_decay=0.1), unfrozen=True, files=("keras", "npz", "h5")),
    "sgd_dynamic_scale": Row(lambda model: ka.SGD(0.05, momentum=0.9, loss_scale_factor="dynamic")),
    "rmsprop": Row(lambda model: ka.RMSprop(0.05, momentum=0.5, centered=True)),
    "rmsprop_rows": Row(lambda model: ka.RMSprop(0.05), model=misnamed),
    "adam_int8_embedding": Row(lambda model: ka.Adam(0.05, slot_dtype="int8"), model=embedding_of_numbers),
    "adam_mini": Row(lambda model: ka.AdamMini(0.05), model=misnamed),
    "tiger": Row(lambda model: ka.Tiger(0.05), model=misnamed),
    "lamb": Row(lambda model: ka.Lamb(0.05, weight_decay=0.1)),
    "adafactor": Row(lambda model: ka.Adafactor(0.05, beta_1=0.9), model=heads),
    "muon": Row(muon, model=attention),
    "normuon": Row(lambda model: ka.NorMuon(0.02, groups=ka.companion_groups(model)), model=attention),
    "soap": Row(lambda model: ka.Soap(0.02, frequency=2), model=heads),
    "shampoo": Row(lambda model: ka.Shampoo(0.02, frequency=2, block_size=3), model=heads),
    "schedule_free": Row(lambda model: ka.ScheduleFreeAdamW(0.05, warmup_steps=3)),
    "prodigy": Row(lambda model: ka.Prodigy(d_0=0.01)),
    "dog": Row(lambda model: ka.DoG(reps_rel=0.01)),
}


def with_optimizer(model, optimizer):
    model.compile(optimizer=optimizer, loss="mse")
    optimizer.build(model.trainable_variables)
    return model


def fresh(name):
    """A model with new weights and a built optimizer, as they were before the first step."""
    row = ROWS[name]
    keras.utils.set_random_seed(82)
    model = row.model()
    model.layers[0].trainable = not row.unfrozen
    return with_optimizer(model, row.make(model))


def steps(model, first, last):
    """Steps number `first` to `last` - 1."""
    optimizer, variables = model.optimizer, model.trainable_variables
    apply = compiled(optimizer, variables)
    for t in range(first, last):
        scale = float(ops.convert_to_numpy(optimizer.dynamic_scale)) if optimizer.loss_scale else 1.0
        # This stream of random numbers is one that NumPy never changes.
        random = np.random.RandomState(t)
        gradients = [scale * 0.3 * random.normal(size=v.shape) for v in variables]
        apply([ops.convert_to_tensor(g, dtype=v.dtype) for g, v in zip(gradients, variables, strict=True)])


def halfway(name):
    """The model as it was saved."""
    row, model = ROWS[name], fresh(name)
    if row.unfrozen:
        steps(model, 1, 3)
        model.layers[0].trainable = True
        model.optimizer.extend(model.trainable_variables)
        model.compile(optimizer=model.optimizer, loss="mse")
    steps(model, 3 if row.unfrozen else 1, row.before)
    return model


def weights(model):
    return [ops.convert_to_numpy(v).astype("float32") for v in model.trainable_variables]


def save(name, folder):
    model = halfway(name)
    if "keras" in ROWS[name].files:
        model.save(folder / f"{name}.keras")
    if "h5" in ROWS[name].files:
        model.save_weights(folder / f"{name}.weights.h5")
    if "npz" in ROWS[name].files:
        begin = {f"weight {place}": array for place, array in enumerate(weights(model))}
        np.savez_compressed(folder / f"{name}.npz", **begin, **model.optimizer.get_state())
    steps(model, ROWS[name].before, ROWS[name].before + STEPS)
    np.savez_compressed(folder / f"{name}-end.npz", *weights(model))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for each in ROWS:
        save(each, target)
        print(each, {path.name: path.stat().st_size for path in sorted(target.glob(f"{each}[.-]*"))})
