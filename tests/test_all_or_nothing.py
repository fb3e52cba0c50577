"""A call that raises or is interrupted changes nothing. A retry continues as if nothing had happened."""

import os
import signal
import threading

import keras
import numpy as np
import pytest
from cases import CASE, each
from keras import ops
from support import values

STEPS = 12
full = pytest.mark.full


class Failure(Exception):
    """Raised by what the user gave to the optimizer."""


class Fuse:
    """Raises at the calls of these numbers, which are counted over all that hold it."""

    def __init__(self, at=()):
        self.at, self.calls = set(at), 0

    def __call__(self):
        self.calls += 1
        if self.calls in self.at:
            raise Failure(f"call {self.calls}")


class Constraint(keras.constraints.Constraint):
    def __init__(self, fuse):
        self.fuse = fuse

    def __call__(self, w):
        self.fuse()
        return ops.clip(w, -0.9, 0.9)


class Decay(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, fuse):
        self.fuse = fuse

    def __call__(self, step):
        self.fuse()
        return 0.1 / (1.0 + ops.cast(step, "float32"))

    def get_config(self):
        return {}


class Training:
    """Variables with and without a constraint, and micro-batches whose gradients depend on nothing.

    Args:
        make: makes the optimizer from a callable learning rate and options.
        fuse: what the callable, the schedule and the constraints ask.
    """

    def __init__(self, make, fuse, **options):
        self.done, rng = 0, np.random.default_rng(5)
        self.gradients = rng.normal(size=(STEPS, 4, 3)).astype("float32")
        self.weights = [keras.Variable(np.ones(3, "float32"), name=f"w{i}") for i in range(4)]
        for weight in self.weights[1:]:
            weight.constraint = Constraint(fuse)
        self.optimizer = make(learning_rate=lambda: (fuse(), 0.1)[1], **options)
        self.optimizer.build(self.weights)

    @property
    def variables(self):
        return [*self.weights, *self.optimizer.variables]

    def step(self):
        self.optimizer.apply([ops.convert_to_tensor(g) for g in self.gradients[self.done]], self.weights)
        self.done += 1

    def run(self):
        """To the end; a call that raises must change nothing, and is tried again."""
        raised = 0
        while self.done < STEPS:
            before = values(self.variables)
            try:
                self.step()
            except Failure:
                raised += 1
                assert all(np.array_equal(a, b) for a, b in zip(values(self.variables), before, strict=True))
        return values(self.variables), raised


OPTIONS = {
    "plain": {},
    "window": {"gradient_accumulation_steps": 3, "use_ema": True},
}


def ends_are_equal(make, options, at):
    expected, _ = Training(make, Fuse(), **options).run()
    ends, raised = Training(make, Fuse(at), **options).run()
    assert raised == len(at)
    assert all(np.array_equal(a, b) for a, b in zip(ends, expected, strict=True))


@each(keras="Keras writes each variable, and the window, before the next constraint is asked")
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_call_that_raises_changes_nothing(case, options):
    """A callable learning rate and three constraints: the first call, and the last one of an update, among others."""
    ends_are_equal(case.make, options, at=[1, 5, 10, 15])


@full
@pytest.mark.parametrize("seed", range(20))
def test_random_failures_change_nothing(seed):
    """200 failures on each backend, 10 in each training, with options that store more."""
    rng = np.random.default_rng(seed)
    at = rng.choice(np.arange(1, 24), size=10, replace=False)
    steps = int(rng.integers(1, 4))
    options = {"gradient_accumulation_steps": steps, "use_ema": bool(rng.integers(2)), "skip_nonfinite": True}
    options |= {"weight_decay": Decay(Fuse()), "loss_scale_factor": 4.0, "monitor": bool(rng.integers(2))}
    ends_are_equal(CASE.make, options, at)


# Ctrl-C


@pytest.fixture
def default_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@full
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_an_interrupt_is_never_lost_and_never_splits_a_step(options, default_handler):
    """Ctrl-C at 100 random moments: each raises, and the weights are those after a number of steps.

    Steps are counted by the optimizer, since an interrupt may come between the end of a step and the count of the test.
    """
    training, rng = Training(CASE.make, Fuse(), **options), np.random.default_rng(7)
    window = options.get("gradient_accumulation_steps", 1)
    reference = Training(CASE.make, Fuse(), **options)
    after = [values(reference.variables)]
    for _ in range(STEPS):
        reference.step()
        after.append(values(reference.variables))

    def done():
        position = int(values([training.optimizer.window_position])[0]) if window > 1 else 0
        return int(values([training.optimizer.iterations])[0]) * window + position

    start, interrupts = values(training.variables), 0
    while interrupts < 100:
        timer = threading.Timer(rng.uniform(0.0, 0.05), os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            while True:
                if training.done == STEPS:
                    for variable, value in zip(training.variables, start, strict=True):
                        variable.assign(value)
                    training.done = 0
                training.step()
        except KeyboardInterrupt:
            interrupts += 1
            timer.join()
        if training.done == STEPS:
            # It may have come while the weights were set back to the start.
            for variable, value in zip(training.variables, start, strict=True):
                variable.assign(value)
            training.done = 0
        training.done = done()
        now = values(training.variables)
        assert all(np.array_equal(a, b) for a, b in zip(now, after[training.done], strict=True))


def test_a_second_interrupt_is_handled_at_once(default_handler):
    def impatient(w):
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second one must have ended this")

    weight = keras.Variable([1.0], name="w")
    weight.constraint = impatient
    with pytest.raises(KeyboardInterrupt):
        CASE.make(jit_update=False).apply([ops.ones(1)], [weight])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_user_defined_handler_is_not_replaced():
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        weight = keras.Variable([1.0], name="w")
        weight.constraint = lambda w: (signal.raise_signal(signal.SIGINT), w)[1]
        CASE.make(jit_update=False).apply([ops.ones(1)], [weight])
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen


def test_after_a_failed_build_the_optimizer_can_be_built():
    class Odd:
        """No variable: it has no shape."""

    optimizer = CASE.make()
    before = [v.path for v in optimizer.variables]
    with pytest.raises((TypeError, AttributeError)):
        optimizer.build([keras.Variable([1.0], name="w"), Odd()])
    assert [v.path for v in optimizer.variables] == before
    weight = keras.Variable([1.0], name="w")
    optimizer.apply([ops.ones(1)], [weight])
    assert int(values([optimizer.iterations])[0]) == 1
