"""In a user's tf.function, AutoGraph rewrites the user's code and none of ours."""

import contextlib
import io
import re

import keras
import numpy as np
import pytest
from cases import each

import keras_adaptive as ka

pytestmark = pytest.mark.on("tensorflow")
OPTIONS = {
    "weight_decay": 0.01,
    "use_ema": True,
    "gradient_accumulation_steps": 2,
    "loss_scale_factor": "dynamic",
    "global_clipnorm": 1.0,
}


def assert_not_rewritten(function, *arguments):
    """AutoGraph rewrites this function, and nothing that it calls."""
    import tensorflow as tf

    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            tf.autograph.set_verbosity(3, alsologtostdout=True)
            tf.function(function)(*arguments)
    finally:
        tf.autograph.set_verbosity(0, alsologtostdout=False)
    log = output.getvalue()
    # It says so of each function that it rewrites or takes from its cache.
    rewritten = re.findall("^Not allowed: (.*): default rule", log, re.MULTILINE)
    assert "Converted call" in log, "AutoGraph was not at work"
    # Of an object that is called, it rewrites what `do_not_convert` put around `__call__`, and nothing inside.
    called = re.compile(r"__call__|\.Schedule'>$|^(WarmupSchedule|PolynomialDecay)\(.*\)$")
    assert not [each for each in rewritten if not called.search(each)]
    assert "WARNING" not in log


def variables():
    return [keras.Variable(np.ones(shape, "float32"), name=f"v{i}") for i, shape in enumerate([(3, 2), (2,), (4, 3)])]


@each()
@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["plain", "everything"])
def test_a_first_step_that_builds(case, options):
    import tensorflow as tf

    weights, optimizer = variables(), case.make(**options)

    def step(x):
        with tf.GradientTape() as tape:
            loss = optimizer.scale_loss(tf.add_n([tf.reduce_sum(x * each.value**2) for each in weights]))
        optimizer.apply(tape.gradient(loss, [each.value for each in weights]), weights)

    assert_not_rewritten(step, tf.constant(2.0))


def test_every_public_method_can_be_called_in_a_function():
    """Each public method that computes with variables, and groups and schedules created in a function."""
    import tensorflow as tf

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
    made = []

    def everything(x):
        rate = ka.WarmupSchedule(ka.PolynomialDecay(ka.scale_learning_rate(0.1, 32, 64), 10), 3)
        if not made:  # TensorFlow traces a function that makes variables a second time
            groups = [*ka.companion_groups(model), *ka.layerwise_decay(model, 0.5), ka.no_decay_on_vectors()]
            made.append(ka.Muon(rate, groups=groups, use_ema=True, weight_decay=0.1))
            made[0].exclude_from_weight_decay(var_names=["bias"])
            made[0].build(model.trainable_variables)
        gradients = [tf.cast(x, tf.float32) * tf.ones(each.shape) for each in model.trainable_variables]
        made[0].apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        made[0].update_step(gradients[0], model.trainable_variables[0], rate(x))
        made[0].apply(gradients, model.trainable_variables)

    assert_not_rewritten(everything, tf.constant(2))
