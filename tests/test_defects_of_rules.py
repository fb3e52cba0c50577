"""Steps of Keras's classes that are not the algorithm's, and ours, which are."""

import defects_of_rules as of_rules
import keras
import numpy as np
import pytest
from reference import twins

import keras_adaptive

FAILS = pytest.mark.xfail(strict=True, raises=AssertionError, reason="a bug of Keras's class")
# Keras reads the old z after it has assigned the new one, where a variable's value is a reference.
READS_THE_NEW_Z = [] if keras.backend.backend() == "jax" else [FAILS]


def theirs_and_ours(name, marks=FAILS):
    """Keras's class, which must fail, if this Keras has it; and ours."""
    theirs = [getattr(keras.optimizers, name)] if hasattr(keras.optimizers, name) else []
    return [
        *(pytest.param(cls, marks=marks, id="keras") for cls in theirs),
        pytest.param(getattr(keras_adaptive, name), id="ours"),
    ]


@pytest.mark.parametrize(
    ("cls", "twin"),
    [
        pytest.param(keras.optimizers.Adafactor, twins.adafactor, marks=FAILS, id="keras"),
        pytest.param(keras_adaptive.Adafactor, twins.adafactor, id="adafactor"),
        pytest.param(keras_adaptive.Came, twins.came, id="came"),
    ],
)
def test_a_row_and_a_column_of_zeros_give_the_steps_of_the_twin(cls, twin):
    gap = of_rules.difference_from_twin(cls, twin, np.ones((4, 3)), of_rules.SWITCHED_OFF, 5)
    assert gap <= 1e-6


@pytest.mark.parametrize("cls", theirs_and_ours("ScheduleFreeAdamW", READS_THE_NEW_Z))
def test_schedule_free_adamw_takes_x_from_the_old_z(cls):
    assert of_rules.schedule_free()(cls) <= 1e-6


@pytest.mark.parametrize("cls", theirs_and_ours("ScheduleFreeAdamW"))
def test_schedule_free_adamw_averages_with_the_rates_of_the_warm_up(cls):
    assert of_rules.schedule_free(warmup_steps=4)(cls) <= 1e-6


@pytest.mark.parametrize("cls", theirs_and_ours("ScheduleFreeAdamW"))
def test_schedule_free_adamw_decays_z(cls):
    assert of_rules.schedule_free_decay(cls) == pytest.approx(0.05, abs=1e-6)
