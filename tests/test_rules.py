"""Every rule matches its NumPy float64 twin, compiled where the backend compiles. tests/test_mutations.py shows that a
rule with a wrong hyperparameter, sign or term does not."""

import inspect
from functools import partial

import worlds
from cases import column, each
from keras import ops
from support import Problem, Ramp, compiled, difference, values

# A vector, a matrix and a kernel.
SHAPES = ((7,), (4, 3), (2, 3, 2))
STEPS = 25
TOLERANCE = 1e-12
WORLD = worlds.current()


class OfEverySize(Problem):
    """The gradients of kernels are small, so that an epsilon counts next to their squares."""

    def gradient(self, index):
        usual, size = super().gradient(index), 1e-4 if self.start[index].ndim > 2 else 1.0
        return lambda t, theta: size * usual(t, theta)


def gap(case):
    """How far an optimizer ends from its twin, in its weights and in the average that it is evaluated with.

    The learning rate changes, and there is weight decay if the rule has its own place for it.
    """
    problem = OfEverySize(seed=17, shapes=case.shapes or SHAPES, steps=STEPS)
    schedule = Ramp(case.rate)
    decay = {"weight_decay": case.arguments.get("weight_decay", 0.1)} if case.optimizer.decay == "rule" else {}
    variables, optimizer = problem.variables("float64"), case.make(learning_rate=schedule, **decay)
    apply = compiled(optimizer, variables)
    for t in range(1, problem.steps + 1):
        apply([ops.convert_to_tensor(g, dtype="float64") for g in problem.gradients(t, values(variables))])
    twin = partial(problem.reference, case.twin, schedule.at, case.coupled)
    arguments = {**case.arguments, **case.of_twin, **decay}
    ours, theirs = values(variables), twin(**arguments)
    if "return_average" in inspect.signature(case.twin).parameters:
        ours += optimizer.evaluation_weights().values()
        theirs += twin(**arguments, return_average=True)
    return difference(ours, theirs)


@column({"tensorflow": "XLA", "jax": "JAX", "torch": "torch"}.get(WORLD, WORLD))
@each("rows", jax="lecture", full="classes")
def test_the_rule_matches_its_twin(case, float64):
    assert gap(case) <= TOLERANCE
