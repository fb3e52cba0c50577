"""Arguments are declared once, as fields. Constructors, configs and stubs follow from them."""

import inspect
import itertools
import pickle
import re

import keras
import numpy as np
import pytest
from cases import ROWS
from keras import ops
from support import a_weight, value

import keras_adaptive
from keras_adaptive import Adam, AdaptiveOptimizer, Group
from keras_adaptive.core.fields import KW_ONLY, flag, fraction, rate
from keras_adaptive.core.options import OPTIONS
from keras_adaptive.core.state.checkpoint import scalars_of
from keras_adaptive.core.state.slots import Scalar, Slot

CLASSES = sorted({case.optimizer for case in ROWS}, key=lambda cls: cls.__name__)
each_class = pytest.mark.parametrize("cls", CLASSES)
# Options may be given by name alone, also where Keras takes them by position.
NEW_IN_KERAS = {"ScheduleFreeAdamW"}
OF_KERAS = [cls for cls in CLASSES if hasattr(keras.optimizers, cls.__name__)]


def parameters(cls, kind):
    return [name for name, one in inspect.signature(cls).parameters.items() if one.kind is kind]


@each_class
@pytest.mark.quick
def test_no_class_writes_a_constructor(cls):
    assert "__init__" not in vars(cls)
    assert set(OPTIONS) <= set(inspect.signature(cls).parameters)
    by_position = parameters(cls, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert by_position[0] == "learning_rate"
    assert set(OPTIONS) & set(by_position) <= {"weight_decay"}


@each_class
@pytest.mark.quick
def test_positional_arguments_have_the_order_of_keras(cls):
    by_position = parameters(cls, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if cls.__name__ in NEW_IN_KERAS and cls not in OF_KERAS:
        pytest.skip("this version of Keras does not have the class yet")
    if cls not in OF_KERAS:
        assert by_position == ["learning_rate"]
        return
    own = set(cls.own_fields)
    theirs = list(inspect.signature(getattr(keras.optimizers, cls.__name__)).parameters)
    assert by_position == list(itertools.takewhile(lambda name: name in own, theirs))


@pytest.mark.quick
def test_more_positional_arguments_than_in_keras_are_refused():
    with pytest.raises(TypeError, match=r"Muon takes learning_rate by position.*momentum=.*Received: 2 .*0\.95"):
        keras_adaptive.Muon(0.02, 0.95)
    assert keras_adaptive.AdamW(1e-3, 0.004).weight_decay == 0.004
    assert keras_adaptive.Adagrad(0.01, 0.1).initial_accumulator_value == 0.1
    with pytest.raises(TypeError, match="by position and by name"):
        Adam(0.1, learning_rate=0.2)


@pytest.mark.parametrize(
    ("cls", "wrong", "meant"),
    [
        (Adam, "weigth_decay", "weight_decay"),
        (Adam, "clip_norm", "clipnorm"),
        (Adam, "lr", "learning_rate"),
        (Adam, "decay", "weight_decay"),
        (Adam, "betas", "beta_1` and `beta_2"),
        (Adam, "epsilon_outside", "epsilon"),
        (keras_adaptive.Muon, "ns_steps", "steps"),
        (keras_adaptive.Lamb, "debias", "use_bias_correction"),
    ],
)
@pytest.mark.quick
def test_an_unknown_argument_names_the_nearest(cls, wrong, meant):
    with pytest.raises(TypeError, match=rf"has no argument `{wrong}`.*`{meant}`.*Received: {wrong}=0.5"):
        cls(**{wrong: 0.5})


@pytest.mark.quick
def test_the_docstring_lists_all_arguments_with_their_limits():
    text = " ".join(Adam.__doc__.split())
    accepted = "A real number in [0, 1), or a LearningRateSchedule"
    assert f"beta_1: Decay rate of the moving average of the gradient. {accepted}. Default 0.9." in text
    assert "clipnorm: " in text
    assert "amsgrad: " in text
    assert "Raises: ValueError, TypeError" in text
    assert text.index("Args:") < text.index("Slots:")


# Epsilon


@pytest.mark.parametrize(
    ("given", "epsilon", "root"),
    [
        ({}, 0.0, 1e-16),
        ({"epsilon": 1e-7}, 1e-7, 0.0),
        ({"epsilon_root": 1e-12}, 0.0, 1e-12),
        ({"epsilon": 1e-7, "epsilon_root": 1e-12}, 1e-7, 1e-12),
        ({"epsilon": None, "epsilon_root": 1e-12}, 0.0, 1e-12),
    ],
)
@pytest.mark.quick
def test_one_epsilon_of_adam_makes_the_other_zero(given, epsilon, root):
    optimizer = Adam(**given)
    assert (optimizer.epsilon, optimizer.epsilon_root) == (epsilon, root)
    config = optimizer.get_config()
    assert (config["epsilon"], config["epsilon_root"]) == (epsilon, root)
    again = Adam.from_config(config)
    assert (again.epsilon, again.epsilon_root) == (epsilon, root)
    grouped = Adam(0.1, epsilon_root=1e-9, groups=[Group("^a", **given), Group("^b")])
    grouped.build([keras.Variable([1.0], name=name) for name in "ab"])
    of_a, of_b = (state.hyperparameters for state in grouped.plan.states)
    expected = (epsilon, root) if given else (0.0, 1e-9)
    assert (of_a["epsilon"], of_a["epsilon_root"]) == expected
    assert (of_b["epsilon"], of_b["epsilon_root"]) == (0.0, 1e-9)


@pytest.mark.quick
def test_the_first_step_of_adam_with_epsilon_outside_matches_the_paper(float64):
    """theta - eta g / (|g| + epsilon), whatever the betas are."""
    theta = keras.Variable(np.ones(2))
    Adam(0.5, 0.9, 0.999, 1e-3).apply([ops.convert_to_tensor(np.array([1e-3, -1.0]))], [theta])
    np.testing.assert_allclose(value(theta), [1.0 - 0.25, 1.0 + 0.5 / 1.001], rtol=1e-12)


@pytest.mark.quick
def test_a_config_of_0_1_0_is_translated_to_the_current_names():
    """In 0.1.0 `epsilon` was inside the root. A group that set one epsilon had the other from the optimizer."""
    old = Adam().get_config() | {"epsilon": 1e-12, "epsilon_outside": 1e-5}
    old = {name: given for name, given in old.items() if name not in ("epsilon_root", "amsgrad")}
    group = keras.saving.serialize_keras_object(Group("^a", epsilon=1e-9))
    optimizer = Adam.from_config(old | {"groups": [group]})
    assert (optimizer.epsilon, optimizer.epsilon_root) == (1e-5, 1e-12)
    optimizer.build([keras.Variable([1.0], name=name) for name in "ab"])
    of_a = optimizer.plan.states[0].hyperparameters
    assert (of_a["epsilon"], of_a["epsilon_root"]) == (1e-5, 1e-9)
    lamb = keras_adaptive.Lamb().get_config()
    lamb["debias"] = not lamb.pop("use_bias_correction")
    assert keras_adaptive.Lamb.from_config(lamb).use_bias_correction is False


# What Keras accepts


@pytest.mark.quick
def test_meaningful_arguments_of_keras_are_accepted():
    assert keras_adaptive.SGD(nesterov=True).nesterov
    assert not Adam(amsgrad=False).amsgrad
    assert Adam(weight_decay=False).weight_decay is None
    assert keras_adaptive.SGD(momentum=1.0).momentum == 1.0
    with pytest.raises(ValueError, match="`amsgrad` must be False"):
        Adam(amsgrad=True)
    with pytest.raises(ValueError, match="`learning_rate` must be a number above 0 unless base_learning_rate"):
        keras_adaptive.AdaBound(learning_rate=0.0)


def test_nesterov_without_momentum_is_plain(float64):
    ends = []
    for given in ({}, {"nesterov": True}):
        theta = keras.Variable([1.0, 2.0])
        keras_adaptive.SGD(0.5, **given).apply([ops.convert_to_tensor([4.0, -0.25])], [theta])
        ends.append(value(theta))
    np.testing.assert_array_equal(*ends)


# Limits


TOO_LARGE = 10**400


@pytest.mark.parametrize(
    ("cls", "given"),
    [
        (Adam, {"learning_rate": 1e39}),
        (Adam, {"learning_rate": 1e-45}),
        (Adam, {"learning_rate": int}),
        (Adam, {"learning_rate": TOO_LARGE}),
        (Adam, {"clipnorm": 1e-45}),
        (Adam, {"clipvalue": 1e39}),
        (Adam, {"beta_1": 1.0 - 1e-9}),
        (Adam, {"beta_2": 1e-50}),
        (Adam, {"loss_scale_factor": 1e39}),
        (Adam, {"gradient_accumulation_steps": 2**31}),
        (Adam, {"ema_overwrite_frequency": 2**40, "use_ema": True}),
        (Adam, {"seed": TOO_LARGE}),
        (Adam, {"weight_decay": TOO_LARGE}),
        (keras_adaptive.Muon, {"steps": 2**31}),
    ],
    ids=str,
)
@pytest.mark.quick
def test_limits_hold_in_float32(cls, given):
    name = next(iter(given))
    with pytest.raises((ValueError, TypeError), match=rf"`{name}` must be .*Received: {name}=") as error:
        cls(**given)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_a_callable_with_an_invalid_learning_rate_raises_and_changes_nothing(wrong):
    theta, optimizer = keras.Variable([1.0]), keras_adaptive.SGD(lambda: wrong)
    with pytest.raises(ValueError, match=r"`learning_rate` must be .*which returned"):
        optimizer.apply([ops.ones(1)], [theta])
    np.testing.assert_array_equal(value(theta), [1.0])
    assert int(ops.convert_to_numpy(optimizer.iterations)) == 0


# Definition


@pytest.mark.quick
def test_a_class_defined_in_one_file_has_its_arguments():
    class Momentum(AdaptiveOptimizer):
        """Momentum."""

        learning_rate = rate(0.1)
        beta = fraction(0.9, "weight of the last average")
        _ = KW_ONLY
        nesterov = flag(False, "look ahead")
        slots = ("m",)

        def rule(self, h, theta, g, m):
            m = h.beta * m + (1 - h.beta) * g
            return h.eta * m, (m,)

    class Named(Momentum):
        """With one more."""

        scale = fraction(0.5, "of the step")

        def rule(self, h, theta, g, m):
            delta, slots = super().rule(h, theta, g, m)
            return h.scale * delta, slots

    assert Momentum(0.5, 0.25).beta == 0.25
    assert list(inspect.signature(Named).parameters)[:4] == ["learning_rate", "beta", "nesterov", "scale"]
    theta = keras.Variable([1.0])
    Named(1.0, 0.5, scale=0.25).apply([ops.ones(1)], [theta])
    np.testing.assert_allclose(value(theta), [0.875])
    assert "beta: Weight of the last average" in Named.__doc__


@pytest.mark.quick
def test_a_user_defined_constructor_is_not_replaced():
    class Mine(Adam):
        def __init__(self, factor, **options):
            super().__init__(0.1 * factor, **options)

    assert list(inspect.signature(Mine).parameters) == ["factor", "options"]
    assert value(Mine(2.0, beta_1=0.5).learning_rate) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"slots": ("average",)}, "slot 'average'"),
        ({"slots": ("theta",)}, "slot 'theta'"),
        ({"slots": ("m", Slot("m_scale"))}, "slot 'm_scale'"),
        ({"debias": flag(True, "correct")}, "argument 'debias'"),
        ({"t": fraction(0.5, "time")}, "argument 't'"),
        ({"eta": fraction(0.5, "rate")}, "argument 'eta'"),
        ({"variables": flag(True, "no")}, "argument 'variables'"),
        ({"scalars": (Scalar("iteration"),)}, "scalar 'iteration'"),
        ({"beta": fraction(0.5, "b"), "scalars": (Scalar("beta"),)}, "scalar 'beta'"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
@pytest.mark.quick
def test_names_used_by_the_core_are_refused_at_class_definition(body, named):
    with pytest.raises(TypeError, match=f"the core uses that name.*Received: the {named}"):
        type("Mine", (AdaptiveOptimizer,), body)


@pytest.mark.quick
def test_names_of_shared_state_are_refused():
    optimizer = Adam(gradient_accumulation_steps=2, loss_scale_factor="dynamic")
    optimizer.build([a_weight(np.ones(3, "float32"))])
    names = list(scalars_of(optimizer))
    assert len(names) == 7
    for name in names:
        with pytest.raises(TypeError, match=f"the core uses that name.*Received: the scalar '{name}'"):
            type("Mine", (AdaptiveOptimizer,), {"scalars": (Scalar(name),)})


@pytest.mark.quick
def test_a_class_in_the_form_of_0_1_0_raises_at_definition():
    with pytest.raises(
        TypeError, match=r"`hyperparameters` of Old must be fields.*Received: hyperparameters=\['beta'\]"
    ):
        type("Old", (AdaptiveOptimizer,), {"hyperparameters": {"beta": None}})


def test_the_settings_of_a_group_hold_for_a_vector_of_mars(float64):
    """The facts of a variable have separate names, and hide no hyperparameter."""
    ends = []
    for given in ({}, {"vector_beta_1": 0.1}):
        theta = keras.Variable([1.0, 2.0], name="b")
        optimizer = keras_adaptive.Mars(0.1, groups=[Group("b", **given, learning_rate_multiplier=1.0)])
        for gradient in ([1.0, -1.0], [0.1, 3.0]):
            optimizer.apply([ops.convert_to_tensor(gradient)], [theta])
        ends.append(value(theta))
    assert np.abs(ends[0] - ends[1]).min() > 1e-3


# Written down


@pytest.mark.quick
def test_repr_shows_arguments_that_differ_from_the_defaults():
    assert repr(Adam()) == "Adam()"
    assert repr(Adam(0.5, clipnorm=1.0)) == "Adam(learning_rate=0.5, clipnorm=1.0)"
    assert repr(Adam(epsilon=1e-7)) == "Adam(epsilon=1e-07, epsilon_root=0.0)"


@pytest.mark.quick
def test_the_config_begins_with_what_to_do_if_the_package_is_not_imported():
    config = keras.optimizers.serialize(Adam())["config"]
    assert next(iter(config.values())) == "import keras_adaptive before the file is loaded"
    assert repr(pickle.loads(pickle.dumps(Adam(0.5)))) == "Adam(learning_rate=0.5)"


@pytest.mark.quick
def test_the_stub_is_current():
    """`python tests/stubs.py` writes it."""
    import stubs

    assert stubs.TARGET.read_text(encoding="utf-8") == stubs.stub()


@pytest.mark.quick
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"decay": 1e-4}, "Keras 2 used it for the decay of the learning rate"),
        ({"foreach": True}, "Leave it out"),
        ({"gradient_clip": 1.0}, "it is called `global_clipnorm` here"),
        ({"mask": None}, "it is called `groups` here"),
    ],
)
def test_names_of_other_libraries_lead_to_what_to_do(arguments, said):
    with pytest.raises(TypeError, match=re.escape(said)):
        keras_adaptive.SGD(0.1, **arguments)


@pytest.mark.quick
def test_an_argument_with_one_value_says_what_to_do_instead():
    with pytest.raises(ValueError, match=r"`amsgrad` must be False; for AMSGrad use the class `Amsgrad`"):
        keras_adaptive.Adam(amsgrad=True)
