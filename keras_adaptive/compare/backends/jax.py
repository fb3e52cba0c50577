"""Runs on JAX: one compiled step for each optimizer and workload; on an accelerator, many runs at once."""

import functools
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import keras
import numpy as np

from keras_adaptive.bench.backends import process
from keras_adaptive.compare import schedule
from keras_adaptive.compare.contenders import Contender
from keras_adaptive.compare.workloads import Workload

# The number of evaluations of a run.
POINTS = 50


class Trained(NamedTuple):
    """The result of a run: the validation loss over time, and the loss of the test if it was asked for."""

    curve: list[float]
    test: float | None


@functools.lru_cache(maxsize=64)
def initial_weights(model: Any, seed: int):
    """The weights that the model begins with."""
    keras.utils.set_random_seed(seed)
    return [np.asarray(variable.value) for variable in model().trainable_variables]


class Trainer:
    """Trains a workload with a contender.

    Args:
        workload, contender: what to train, and with what.
        lanes: runs at once; 1 on a CPU.
    """

    def __init__(self, workload: Workload, contender: Contender, lanes: int = 1):
        self.workload, self.contender, self.lanes = workload, contender, lanes
        self.data = workload.data()
        self.model = workload.model()
        self.optimizer = self._optimizer()
        variables = self.optimizer.variables
        self.place_of_rate = _place(variables, self.optimizer._learning_rate)
        self.place_of_count = _place(variables, self.optimizer.iterations)
        stored = [state.stored.get(self.optimizer.evaluation_slot) for state in self.optimizer.plan.states]
        self.evaluated = [None if variable is None else _place(variables, variable) for variable in stored]
        self.step = jax.jit(self._step, donate_argnums=0)
        self.chunk = jax.jit(self._chunk, donate_argnums=0)
        self.loss = jax.jit(self._loss)
        self.losses = jax.jit(self._losses)
        self.train = jax.device_put(self.data.train)

    def _optimizer(self):
        optimizer = self.contender.make(self.model)
        optimizer.build(self.model.trainable_variables)
        return optimizer

    @property
    def state_bytes(self) -> int:
        """Bytes of the optimizer's state."""
        return sum(variable.value.nbytes for variable in self.optimizer.variables)

    def begin(self, seed: int):
        """The weights and the state of the optimizer before the first step."""
        weights = initial_weights(self.workload.model, seed)
        for variable, value in zip(self.model.trainable_variables, weights, strict=True):
            variable.assign(value)
        # Some slots begin at the weights.
        state = [np.asarray(variable.value) for variable in self._optimizer().variables]
        return weights, state

    def run(self, runs) -> Iterator[Trained]:
        """The results of runs, each a triple: settings, a seed, and whether the test data is read at the end."""
        if self.lanes == 1:
            yield from (self._one(*run) for run in runs)
            return
        for start in range(0, len(runs), self.lanes):
            some = runs[start : start + self.lanes]
            # The number of runs at once is part of the compiled program.
            padded = [*some, *[some[-1]] * (self.lanes - len(some))]
            yield from self._many(padded)[: len(some)]

    def seconds_per_step(self, steps: int = 20) -> float:
        """The mean time of some steps with the default settings, in which Soap and Shampoo renew their matrices."""
        settings = {name: self.contender.default(name) for name in ("learning_rate", *self.contender.axes)}
        carry, hyper, rates, batches = self._inputs(settings, 0)
        # The first step compiles, or takes over new arrays.
        carry = jax.block_until_ready(self.step(carry, hyper, rates[0], batches[0], self.train))
        begin = time.perf_counter()
        for rate, chosen in zip(rates[1 : steps + 1], batches[1 : steps + 1], strict=True):
            carry = self.step(carry, hyper, rate, chosen, self.train)
        jax.block_until_ready(carry)
        return (time.perf_counter() - begin) / steps

    # One run

    def _inputs(self, settings, seed):
        steps, batch = self.workload.steps, self.workload.batch
        hyper = {name: np.float32(settings[name]) for name in self.contender.axes}
        batches = schedule.batches(seed, len(self.data.train[0]), batch, steps)
        return self.begin(seed), hyper, schedule.rates(settings, steps), batches

    def _one(self, settings, seed, test):
        carry, hyper, rates, batches = self._inputs(settings, seed)
        curve = []
        for t, (rate, chosen) in enumerate(zip(rates, batches, strict=True), start=1):
            carry = self.step(carry, hyper, rate, chosen, self.train)
            if t * POINTS % self.workload.steps == 0:
                curve.append(float(self.loss(carry, *self.data.validation)))
        tested = float(self.loss(carry, *self.data.test)) if test else None
        return Trained(curve, tested)

    def _step(self, carry, hyper, rate, chosen, train):
        weights, state = carry
        inputs, labels = train[0][chosen], train[1][chosen]
        gradients = jax.grad(self._loss_of)(weights, inputs, labels)
        state = [rate if place == self.place_of_rate else value for place, value in enumerate(state)]
        return self.optimizer.stateless_apply(state, gradients, weights, hyperparameters=hyper)

    def _loss_of(self, weights, inputs, labels, training=True):
        fixed = [variable.value for variable in self.model.non_trainable_variables]
        outputs, _ = self.model.stateless_call(weights, fixed, inputs, training=training)
        return self.workload.loss(outputs, labels)

    def _loss(self, carry, inputs, labels):
        """The loss at the weights that the optimizer evaluates."""
        weights, state = carry
        weights = [
            weight if place is None else state[place] for weight, place in zip(weights, self.evaluated, strict=True)
        ]
        return self._loss_of(weights, inputs, labels, training=False)

    # Many runs

    def _many(self, runs):
        inputs = [self._inputs(settings, seed) for settings, seed, _ in runs]
        carries, hypers, rates, batches = zip(*inputs, strict=True)
        carry, hyper = (jax.tree.map(lambda *leaves: np.stack(leaves), *each) for each in (carries, hypers))
        # One number for all lanes: conditions on it stay conditions.
        carry[1][self.place_of_count] = carries[0][1][self.place_of_count]
        of_steps = np.stack(rates, 1), np.stack(batches, 1)
        every = self.workload.steps // POINTS
        losses = []
        for start in range(0, self.workload.steps, every):
            steps = slice(start, start + every)
            carry = self.chunk(carry, hyper, *(each[steps] for each in of_steps), self.train)
            losses.append(self.losses(carry, *self.data.validation))
        curves = np.stack(losses, 1)
        tested = np.asarray(self.losses(carry, *self.data.test)) if any(test for *_, test in runs) else curves[:, -1]
        return [
            Trained([float(loss) for loss in curve], float(loss) if test else None)
            for curve, loss, (*_, test) in zip(curves, tested, runs, strict=True)
        ]

    def _axes(self, carry):
        weights, state = carry
        return [0] * len(weights), [None if place == self.place_of_count else 0 for place in range(len(state))]

    def _chunk(self, carry, hyper, rates, batches, train):
        axes = self._axes(carry)

        def several(carry, given):
            rate, chosen = given
            if self.contender.sequential:
                return self._in_turn(carry, hyper, rate, chosen, train), None
            step = jax.vmap(self._step, in_axes=(axes, 0, 0, 0, None), out_axes=axes)
            return step(carry, hyper, rate, chosen, train), None

        return jax.lax.scan(several, carry, (rates, batches))[0]

    def _in_turn(self, carry, hyper, rate, chosen, train):
        """One step of each lane, one after the other."""
        weights, state = carry
        count = state[self.place_of_count]

        def step(given):
            weights, state, hyper, rate, chosen = given
            state = [count if place == self.place_of_count else value for place, value in enumerate(state)]
            return self._step((weights, state), hyper, rate, chosen, train)

        # The number of updates has no axis for the lanes; its place holds one number for each of them.
        filled = [rate if place == self.place_of_count else value for place, value in enumerate(state)]
        weights, state = jax.lax.map(step, (weights, filled, hyper, rate, chosen))
        return weights, [value[0] if place == self.place_of_count else value for place, value in enumerate(state)]

    def _losses(self, carry, inputs, labels):
        return jax.vmap(self._loss, in_axes=(self._axes(carry), None, None))(carry, inputs, labels)


def step(optimizer, variables):
    """A function of gradients that updates the variables."""
    compiled = jax.jit(optimizer.stateless_apply)

    def update(gradients):
        values = compiled([v.value for v in optimizer.variables], gradients, [v.value for v in variables])
        for group, new in zip((variables, optimizer.variables), values, strict=True):
            for variable, value in zip(group, new, strict=True):
                variable.assign(value)

    return update


def device() -> str:
    """The name of the device on which runs are computed."""
    (first, *_) = jax.devices()
    return process.processor() if first.platform == "cpu" else first.device_kind


def _place(variables, variable):
    (place,) = [number for number, other in enumerate(variables) if other is variable]
    return place
