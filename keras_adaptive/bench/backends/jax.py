"""Updates under JAX: compiled, with the arrays that they replace donated."""

import importlib.util
from typing import Any

import jax

from keras_adaptive.bench.backends import process

FORMS = {"in fit": True}


class Update:
    """Passes the result of one step to the next."""

    def __init__(self, step, kept, given):
        self.step, self.stored, self.given = step, kept, given
        self.executable: Any = None

    def __call__(self):
        if self.executable is None:
            self.executable = jax.jit(self.step, donate_argnums=0).lower(self.stored, self.given).compile()
        self.stored = jax.block_until_ready(self.executable(self.stored, self.given))

    def several(self, count):
        def steps(kept, given):
            return jax.lax.fori_loop(0, count, lambda _, kept: self.step(kept, given), kept)

        loop = jax.jit(steps, donate_argnums=0).lower(self.stored, self.given).compile()

        def run():
            self.stored = jax.block_until_ready(loop(self.stored, self.given))

        return run

    @property
    def state_bytes(self):
        state, _ = self.stored
        return sum(leaf.nbytes for leaf in jax.tree.leaves(state))

    def extra_bytes(self):
        # As planned by the compiler, since the peak that a device reports cannot be reset.
        planned: Any = self.executable.memory_analysis()
        return planned.temp_size_in_bytes + planned.output_size_in_bytes - planned.alias_size_in_bytes


def device():
    (first, *_) = jax.devices()
    return process.processor() if first.platform == "cpu" else first.device_kind


def gradient(shape, seed):
    return jax.random.normal(jax.random.key(seed), shape, "float32")


def gradient_of_rows(shape, ids, seed):
    return jax.numpy.zeros(shape, "float32").at[ids].add(gradient((len(ids), *shape[1:]), seed))


def update(optimizer, variables, gradients, jit_compile):
    def step(kept, gradients):
        state, weights = kept
        weights, state = optimizer.stateless_apply(state, gradients, weights)
        return state, weights

    return Update(step, tuple([v.value for v in of_one] for of_one in (optimizer.variables, variables)), gradients)


def other_library(name):
    return "optax" if name in _OPTAX and importlib.util.find_spec("optax") else None


def other(name, settings, variables, gradients):
    import optax

    make: Any = _OPTAX[name]
    transformation = make(optax, **settings)

    def step(kept, gradients):
        state, weights = kept
        updates, state = transformation.update(gradients, state, weights)
        return state, optax.apply_updates(weights, updates)

    weights = [v.value for v in variables]
    # A state that shares its arrays with the weights would be donated twice.
    state = jax.tree.map(lambda leaf: jax.numpy.array(leaf, copy=True), transformation.init(weights))
    return Update(step, (state, weights), gradients)


def triad(elements):
    a, b = (jax.numpy.ones(elements, "float32") for _ in range(2))
    return Update(lambda kept, b: ((), kept[1] + 0.5 * b), ((), a), b)


# By the name of our class: a function of the optax module and of the arguments of our class.
_OPTAX = {
    "AdaBelief": lambda o, learning_rate, beta_1, beta_2, **_: o.adabelief(learning_rate, beta_1, beta_2),
    "Adadelta": lambda o, learning_rate, rho, **_: o.adadelta(learning_rate, rho),
    "Adafactor": lambda o, learning_rate, beta_1, **_: o.adafactor(learning_rate, momentum=beta_1 or None),
    "Adagrad": lambda o, learning_rate, **_: o.adagrad(learning_rate),
    "Adam": lambda o, learning_rate, beta_1, beta_2, weight_decay, **_: (
        o.adamw(learning_rate, beta_1, beta_2, weight_decay=weight_decay)
        if weight_decay
        else o.adam(learning_rate, beta_1, beta_2)
    ),
    "AdamW": lambda o, learning_rate, beta_1, beta_2, weight_decay, **_: o.adamw(
        learning_rate, beta_1, beta_2, weight_decay=weight_decay
    ),
    "Adamax": lambda o, learning_rate, beta_1, beta_2, **_: o.adamax(learning_rate, beta_1, beta_2),
    "Adan": lambda o, learning_rate, beta_1, beta_2, beta_3, **_: o.adan(learning_rate, beta_1, beta_2, beta_3),
    "AdEMAMix": lambda o, learning_rate, **_: o.contrib.ademamix(learning_rate),
    "Adopt": lambda o, learning_rate, beta_1, beta_2, **_: o.contrib.adopt(learning_rate, beta_1, beta_2),
    "Amsgrad": lambda o, learning_rate, beta_1, beta_2, **_: o.amsgrad(learning_rate, beta_1, beta_2),
    "DAdaptAdam": lambda o, learning_rate, **_: o.contrib.dadapt_adamw(learning_rate),
    "DoG": lambda o, learning_rate, **_: o.contrib.dog(learning_rate),
    "DoWG": lambda o, learning_rate, **_: o.contrib.dowg(learning_rate),
    "Lamb": lambda o, learning_rate, beta_1, beta_2, weight_decay, **_: o.lamb(
        learning_rate, beta_1, beta_2, weight_decay=weight_decay
    ),
    "Lars": lambda o, learning_rate, momentum, weight_decay, **_: o.lars(
        learning_rate, weight_decay, momentum=momentum
    ),
    "Lion": lambda o, learning_rate, beta_1, beta_2, weight_decay, **_: o.lion(
        learning_rate, beta_1, beta_2, weight_decay=weight_decay
    ),
    "Muon": lambda o, learning_rate, momentum, nesterov, **_: o.contrib.muon(
        learning_rate, beta=momentum, nesterov=nesterov
    ),
    "Nadam": lambda o, learning_rate, beta_1, beta_2, **_: o.nadam(learning_rate, beta_1, beta_2),
    "Novograd": lambda o, learning_rate, beta_1, beta_2, **_: o.novograd(learning_rate, beta_1, beta_2),
    "Prodigy": lambda o, learning_rate, **_: o.contrib.prodigy(learning_rate),
    "RAdam": lambda o, learning_rate, beta_1, beta_2, **_: o.radam(learning_rate, beta_1, beta_2),
    "RMSprop": lambda o, learning_rate, rho, momentum, centered, **_: o.rmsprop(
        learning_rate, rho, centered=centered, momentum=momentum or None
    ),
    "ScheduleFreeAdamW": lambda o, learning_rate, beta_1, beta_2, weight_decay, **_: o.contrib.schedule_free_adamw(
        learning_rate, b1=beta_1, b2=beta_2, weight_decay=weight_decay
    ),
    "ScheduleFreeSGD": lambda o, learning_rate, **_: o.contrib.schedule_free_sgd(learning_rate),
    "SGD": lambda o, learning_rate, momentum, nesterov, **_: o.sgd(learning_rate, momentum or None, nesterov),
    "SM3": lambda o, learning_rate, **_: o.sm3(learning_rate),
    "Yogi": lambda o, learning_rate, beta_1, beta_2, **_: o.yogi(learning_rate, beta_1, beta_2),
}
