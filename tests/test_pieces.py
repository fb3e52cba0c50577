"""On torch: variables that are cut, joined or updated in compiled loops end as under separate updates."""

import concurrent.futures
import functools
import math

import keras
import numpy as np
import pytest
from cases import CASE, each, rows
from keras import ops
from support import Problem, a_weight, difference, state, value, values

from keras_adaptive import CowClip, Group
from keras_adaptive.core.fields import flag, rate
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.step.stage import Place, Stage
from keras_adaptive.optimizers.adam import Adam
from keras_adaptive.optimizers.nadam import Nadam
from keras_adaptive.optimizers.shampoo import Shampoo
from keras_adaptive.optimizers.soap import Soap
from keras_adaptive.optimizers.tiger import Tiger

pytestmark = pytest.mark.on("torch")

ELEMENTWISE = [case for case in rows("classes") if case.optimizer.elementwise]
# For all of these classes, and for one alone what forbids it.
DIVIDED = {
    "plain": {},
    "averaged": {"weight_decay": 0.1, "use_ema": True, "global_clipnorm": 0.5, "gradient_accumulation_steps": 2},
    "bfloat16": {"slot_dtype": "bfloat16"},
}
SCALED = {"int8": {"groups": [Group("", slot_dtype="int8")], "use_ema": True}}
WHOLE = {"clipped": {"clipnorm": 0.3}, "cautious": {"cautious": True}, "monitored": {"monitor": True}}
OPTIONS = DIVIDED | SCALED | WHOLE
SHAPES = [(), (0, 3), (1,), (5,), (4, 3), (4, 3), (2, 3, 1, 2, 3), (7, 5), (3, 70), (2, 3, 40)]


def trained(optimizer, variables, problem, steps=4, missing=()):
    """What becomes of variables and state, with no gradient for those whose places are missing."""
    for t in range(1, steps + 1):
        gradients = [
            None if place in missing else ops.convert_to_tensor(gradient, dtype=variables[place].dtype)
            for place, gradient in enumerate(problem.gradients(t, values(variables)))
        ]
        optimizer.apply(gradients, variables)
    return values(variables) + list(state(optimizer).values())


@pytest.fixture
def cut(monkeypatch):
    """A function that sets how many elements are updated at once; None: each variable separately."""
    from keras_adaptive.core.backends import torch, torch_pieces

    def set_to(size):
        monkeypatch.setattr(torch, "IN_CACHE", math.inf if size is None else size)
        if size is None:
            monkeypatch.setattr(torch_pieces, "buckets", lambda transaction, gradients, values: [None] * len(values))

    return set_to


@pytest.mark.parametrize(
    ("case", "options"),
    [*((case, name) for case in ELEMENTWISE for name in DIVIDED), *((CASE, name) for name in SCALED | WHOLE)],
    ids=lambda one: getattr(one, "name", one),
)
def test_cut_or_joined_variables_match_separate_updates(case, options, cut):
    """With 2, one row of a variable at a time. With 40, the smallest are joined; then all that can be joined."""
    ends = []
    for size in (2, 40, math.inf, None):
        cut(size)
        problem = Problem(seed=24, shapes=SHAPES)
        ends.append(trained(case.make(**OPTIONS[options]), problem.variables("float32"), problem))
    for end in ends[:-1]:
        assert difference(end, ends[-1]) == 0.0


@pytest.fixture
def recorded(monkeypatch):
    """The loops run as they were recorded, operation by operation: that takes no compiler."""
    import torch

    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)


@pytest.fixture
def compiler():
    import torch

    try:
        torch.compile(lambda x: x + 1.0, dynamic=True)(torch.ones(3))
    except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
        pytest.skip(f"torch.compile does not work here: {error}")


def compare_with_loops(case, options, tolerance):
    """Trains with and without loops; returns how many there are, and of how many kinds."""
    ends = []
    for jit_update in ("auto", True):
        problem = Problem(seed=25, shapes=SHAPES)
        variables = problem.variables("float32")
        optimizer = case.make(jit_update=jit_update, **options)
        ends.append(trained(optimizer, variables, problem))
        loops = list(optimizer.plan.update.cache.get("loops", {}).values())
        assert jit_update is True or not loops
    assert difference(*ends) <= tolerance
    return sum(not isinstance(loop, str) for loop in loops), len(loops)


class Noise(Stage):
    """Adds random bits to the gradient."""

    place, option, takes_noise, needs_full_gradient = Place.GRADIENT, "noise", True, True

    @classmethod
    def of(cls, optimizer):
        return cls()

    def on_gradient(self, step, theta, g):
        return g + ops.cast(step.noise("noise", g.shape), g.dtype)


class Noisy(AdaptiveOptimizer):
    """SGD with that stage."""

    learning_rate = rate(1.0)
    noise = flag(True, "add random bits", stages=(Noise,))
    elementwise = True

    def rule(self, h, theta, g):
        return h.eta * g, ()


@pytest.mark.parametrize("jit_update", ["auto", True])
def test_each_variable_gets_separate_noise(jit_update):
    variables = [a_weight(np.zeros(5), "float32") for _ in range(3)]
    Noisy(jit_update=jit_update).apply([ops.zeros(5)] * 3, variables)
    assert len({tuple(value(variable)) for variable in variables}) == 3


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("stochastic_rounding", [False, True])
@pytest.mark.parametrize("jit_update", ["auto", True])
def test_only_variables_with_the_same_update_are_joined_or_share_a_loop(jit_update, stochastic_rounding, cut, recorded):
    """With groups, schedules, dtypes, constraints, names, variables added later and missing gradients."""
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    groups = [
        Group("quick", beta=0.5),
        Group("slow", learning_rate_multiplier=0.5),
        Group("scheduled", weight_decay=schedule),
        Group("undecayed", weight_decay=0.0),
        Group("coarse", slot_dtype="bfloat16"),
    ]
    dtypes = {"wide": "float64", "rounded": "bfloat16", "rounded_coarse": "bfloat16"}
    names = [*dtypes, "plain", "quick", "slow", "scheduled", "undecayed", "limited", "embeddings", "missing"]
    ends = []
    for apart in (False, True):
        cut(None if apart else math.inf)
        problem = Problem(seed=26, shapes=[(4, 3)] * 3 * len(names))
        variables = [
            keras.Variable(start, dtype=dtypes.get(name, "float32"), name=name)
            for start, name in zip(problem.start, names * 3, strict=True)
        ]
        for variable in variables[names.index("limited") :: len(names)]:
            variable.constraint = keras.constraints.MaxNorm(0.5)
        options = {"stochastic_rounding": stochastic_rounding, "jit_update": jit_update}
        # An average of bfloat16 weights would tell them from others.
        optimizer = Tiger(0.1, use_ema=stochastic_rounding, groups=groups, **options)
        missing, early = [names.index("missing")], 2 * len(names)
        optimizer.build(variables[:early])
        trained(optimizer, variables[:early], problem, missing=missing)
        optimizer.extend(variables)
        ends.append(trained(optimizer, variables, problem, missing=missing))
    assert difference(*ends) == 0.0


@pytest.mark.parametrize("micro_batches", [None, 2])
def test_rows_that_are_clipped_by_their_counts_are_not_recorded(micro_batches, recorded):
    ends = []
    for jit_update in ("auto", True):
        problem = Problem(seed=27, shapes=[(6, 3)] * 2)
        variables = [
            keras.Variable(start, dtype="float32", name=name)
            for start, name in zip(problem.start, ["embeddings", "kernel"], strict=True)
        ]
        options = {"gradient_accumulation_steps": micro_batches, "cowclip": CowClip(ratio=0.3)}
        optimizer = CASE.make(jit_update=jit_update, **options)
        for t in range(1, 5):
            gradients = [ops.convert_to_tensor(g, "float32") for g in problem.gradients(t, values(variables))]
            optimizer.apply(gradients, variables, counts={"embeddings": (np.arange(6) + t) % 4})
        ends.append(values(variables))
    assert difference(*ends) == 0.0


@pytest.mark.parametrize(
    ("case", "options"),
    [
        *((case, name) for case in rows("classes") for name in ("averaged", "bfloat16", "int8")),
        *((CASE, name) for name in OPTIONS),
    ],
    ids=lambda one: getattr(one, "name", one),
)
def test_the_recorded_update_matches_the_rule(case, options, recorded):
    loops, kinds = compare_with_loops(case, OPTIONS[options], tolerance=0.0)
    if case.optimizer in (Shampoo, Soap):
        # They decide by the number of the update what to compute.
        assert loops < kinds
    else:
        assert loops == kinds > 0


@pytest.mark.parametrize("options", OPTIONS)
def test_compiled_loops_match_the_rule(options, compiler):
    loops, _ = compare_with_loops(CASE, OPTIONS[options], tolerance=1e-6)
    assert loops == (len({*SHAPES} - {(0, 3)}) if options in WHOLE else 1)


def test_a_loop_is_compiled_once_for_all_lengths(compiler):
    import torch

    optimizer, problem = CASE.make(jit_update=True), Problem(seed=27, shapes=[(n, 2**16) for n in range(1, 8)], steps=1)
    variables, before = problem.variables("float32"), torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for _ in range(3):
        optimizer.apply([ops.convert_to_tensor(start, "float32") for start in problem.start], variables)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1


@each("rows", where=lambda case: case.optimizer in (Adam, Nadam))
def test_float64_scalars_are_written(case, compiler):
    """torch.compile loses what is written to such an input."""
    ends = []
    for jit_update in ("auto", True):
        problem = Problem(seed=31, shapes=[(), (3,)])
        optimizer = case.make(jit_update=jit_update, clipnorm=0.3)
        ends.append(trained(optimizer, problem.variables("float64"), problem))
    assert difference(*ends) <= 1e-12


@pytest.fixture
def traced(monkeypatch):
    """The loops are traced by torch.compile as ever, and run operation by operation: that takes no compiler."""
    import torch

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))


@pytest.mark.parametrize(
    ("shapes", "most"),
    [
        ([(70, 65)], 1),
        # Variables with one row, with one column and with both have separate graphs.
        ([(), (5,), (70, 1), (1, 70), *[(2,) * rank + (70, 3) for rank in range(5)], (1, 1, 70), (7, 7, 3, 64)], 4),
    ],
)
def test_shapes_do_not_make_more_graphs(shapes, most, traced):
    """torch gives up a function that it has compiled for 8 forms of its inputs."""
    import torch

    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    problem = Problem(seed=32, shapes=shapes, steps=1)
    optimizer, variables = CASE.make(jit_update=True, **SCALED["int8"]), problem.variables("float32")
    for _ in range(2):
        optimizer.apply([ops.convert_to_tensor(start, "float32") for start in problem.start], variables)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= before + most


def test_threads_do_not_record_at_the_same_time(traced):
    def run(jit_update):
        problem = Problem(seed=33, shapes=SHAPES)
        return trained(CASE.make(jit_update=jit_update), problem.variables("float32"), problem)

    expected = run("auto")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for end in pool.map(run, [True] * 4):
            assert difference(end, expected) <= 1e-6


class Own(AdaptiveOptimizer):
    """Of a user: with tensors that it made before, or an array for each variable."""

    elementwise = True

    def __init__(self, **options):
        super().__init__(0.1, **options)
        self.factor = a_weight(2.0)

    def about(self, role, h):
        factors = np.ones(2000)
        factors[500] = len(role.path)
        return {"factors": factors} if role.path.startswith("w") else {}

    def rule(self, h, theta, g):
        factor = self.factor.value
        if hasattr(h.variable, "factors"):
            factor = ops.convert_to_tensor(h.variable.factors[500], "float32")
        return h.eta * factor * g, ()


@pytest.mark.parametrize("names", [["w", "ww", "www"], ["a", "aa", "aaa"]], ids=["array", "variable"])
@pytest.mark.parametrize("jit_update", ["auto", True])
def test_a_rule_may_hold_objects_that_cannot_be_compared_or_recorded(names, jit_update, recorded):
    variables = [keras.Variable(np.zeros(3, "float32"), name=name) for name in names]
    Own(jit_update=jit_update).apply([ops.ones(3)] * 3, variables)
    factors = [len(name) if name.startswith("w") else 2.0 for name in names]
    assert difference(values(variables), [np.full(3, -0.1 * factor) for factor in factors]) <= 1e-6


@pytest.mark.parametrize("options", ["plain", "clipped"])
@pytest.mark.parametrize("jit_update", ["auto", True])
def test_a_gradient_may_be_the_variable_and_either_may_be_transposed(jit_update, options, compiler):
    start = np.random.default_rng(28).normal(size=(2**9, 2**10)).astype("float32")
    ends = []
    for mode in ("apart", "itself", "transposed"):
        variable = a_weight(start if mode != "transposed" else start.T)
        if mode == "transposed":
            variable.value.data = variable.value.data.T.contiguous().T
        optimizer = CASE.make(jit_update=jit_update, **OPTIONS[options])
        for _ in range(3):
            gradient = variable.value.detach()
            optimizer.apply([gradient if mode == "itself" else gradient.clone()], [variable])
        (end,) = values([variable])
        ends.append(end.T if mode == "transposed" else end)
    assert difference(ends[1:2], ends[:1]) <= 1e-6
    assert difference(ends[2:], ends[:1]) <= 1e-6


def test_without_a_compiler_nothing_is_changed(monkeypatch):
    import torch

    def broken(graph, inputs):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=broken))
    problem = Problem(seed=29)
    variables, optimizer = problem.variables("float32"), CASE.make(jit_update=True)
    optimizer.build(variables)
    before = values(variables) + list(state(optimizer).values())
    with pytest.raises(ValueError, match=r"`jit_update` must be False or 'auto'.*jit_update=True.*no compiler"):
        optimizer.apply([ops.ones(v.shape) for v in variables], variables)
    assert difference(values(variables) + list(state(optimizer).values()), before) == 0.0


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_model_trains_with_loops(jit_compile, compiler):
    x = np.random.default_rng(30).normal(size=(64, 4)).astype("float32")
    ends = []
    for jit_update in ("auto", True):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)])
        model.compile(CASE.make(jit_update=jit_update), "mse", jit_compile=jit_compile)
        model.fit(x, x[:, :1], batch_size=16, epochs=2, verbose=0, shuffle=False)
        ends.append(values(model.trainable_variables))
        assert not any(row.not_compiled for row in model.optimizer.describe())
    assert difference(*ends) <= 1e-6
