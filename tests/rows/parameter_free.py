"""Schedule-Free, and algorithms that estimate their learning rate."""

from reference import twins
from reference.oracles_large import optax, pytorch_optimizer, single

import keras_adaptive
from rows.case import Case

AVERAGES = {
    "use_ema": "it keeps an average of the weights by its own rule",
    "cautious": "its rule knows where the step ends",
}
FREE = {"warmup_steps": 7, "weight_power": 1.5, "r": 0.5}
WRONG_FREE = ({"warmup_steps": -1}, {"warmup_steps": 2.5}, {"weight_power": -1.0}, {"r": -0.5}, {"r": float("inf")})
WRONG_EPSILON = ({"epsilon": 0.0}, {"epsilon": -1e-8}, {"epsilon": float("nan")}, {"epsilon": 1e-50})
WRONG_ESTIMATE = ({"d_0": 0.0}, {"d_0": -1e-6}, {"growth_rate": 0.9}, {"growth_rate": float("nan")})
WRONG_AVERAGE = ({"average_power": -1.0}, {"average_power": "8"})

ROWS = [
    Case(
        "schedule-free-sgd",
        keras_adaptive.ScheduleFreeSGD,
        twins.schedule_free_sgd,
        single(pytorch_optimizer("ScheduleFreeSGD")),
        wrong=(*WRONG_FREE, {"beta": 1.0}, {"beta": -0.1}),
        refuses=AVERAGES,
    ),
    Case(
        "schedule-free-sgd-warmup",
        keras_adaptive.ScheduleFreeSGD,
        twins.schedule_free_sgd,
        single(
            pytorch_optimizer(
                "ScheduleFreeSGD", momentum=0.8, weight_decay=0.1, warmup_steps=7, weight_lr_power=1.5, r=0.5
            )
        ),
        {"beta": 0.8, "weight_decay": 0.1, **FREE},
        refuses=AVERAGES,
    ),
    Case(
        "schedule-free-adamw",
        keras_adaptive.ScheduleFreeAdamW,
        twins.schedule_free_adamw,
        single(optax("contrib.schedule_free_adamw")),
        wrong=(*WRONG_FREE, *WRONG_EPSILON, {"beta_1": 1.0}, {"beta_2": -0.1}),
        refuses=AVERAGES,
    ),
    Case(
        "schedule-free-adamw-warmup",
        keras_adaptive.ScheduleFreeAdamW,
        twins.schedule_free_adamw,
        arguments={"beta_1": 0.8, "beta_2": 0.99, "weight_decay": 0.1, **FREE},
        refuses=AVERAGES,
    ),
    Case(
        "prodigy",
        keras_adaptive.Prodigy,
        twins.prodigy,
        pytorch_optimizer("Prodigy"),
        wrong=(
            *WRONG_EPSILON,
            *WRONG_ESTIMATE,
            {"beta_1": 1.0},
            {"beta_2": -0.1},
            {"beta_3": 1.0},
            {"d_coefficient": 0.0},
            {"use_bias_correction": 1},
            {"safeguard_warmup": "no"},
        ),
        coupled=True,
        elementwise=False,
        moves=0.0,
        lacks={"first steps": "its first estimate is far below any distance"},
    ),
    Case(
        "prodigy-safeguard",
        keras_adaptive.Prodigy,
        twins.prodigy,
        pytorch_optimizer("Prodigy", betas=(0.8, 0.99), beta3=0.9, d0=1e-2, d_coef=9.0, safeguard_warmup=True),
        {"beta_1": 0.8, "beta_2": 0.99, "beta_3": 0.9, "d_0": 1e-2, "d_coefficient": 9.0, "safeguard_warmup": True},
        coupled=True,
        elementwise=False,
        moves=0.0,
        lacks={"first steps": "its first estimate is a small part of any distance"},
    ),
    Case(
        "prodigy-corrected",
        keras_adaptive.Prodigy,
        twins.prodigy,
        pytorch_optimizer("Prodigy", d0=0.5, d_coef=9.0, growth_rate=1.01, bias_correction=True),
        {"d_0": 0.5, "d_coefficient": 9.0, "growth_rate": 1.01, "use_bias_correction": True},
        coupled=True,
        elementwise=False,
    ),
    Case(
        "dadapt-adam",
        keras_adaptive.DAdaptAdam,
        twins.dadapt_adam,
        pytorch_optimizer("DAdaptAdam"),
        wrong=(*WRONG_EPSILON, *WRONG_ESTIMATE, {"beta_1": 1.0}, {"beta_2": -0.1}, {"use_bias_correction": 1}),
        coupled=True,
        rate=0.2,
        stops=False,
        moves=0.0,
        lacks={"first steps": "its first estimate is far below any distance"},
    ),
    Case(
        "dadapt-adam-corrected",
        keras_adaptive.DAdaptAdam,
        twins.dadapt_adam,
        pytorch_optimizer("DAdaptAdam", betas=(0.8, 0.9), eps=1e-4, d0=1.0, growth_rate=1.01, bias_correction=True),
        {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-4, "d_0": 1.0, "growth_rate": 1.01, "use_bias_correction": True},
        coupled=True,
        rate=0.2,
        stops=False,
    ),
    Case(
        "dog",
        keras_adaptive.DoG,
        twins.dog,
        optax("contrib.dog"),
        wrong=(*WRONG_EPSILON, *WRONG_AVERAGE, {"reps_rel": 0.0}, {"reps_rel": float("inf")}),
        coupled=True,
        rate=1.0,
        elementwise=False,
        moves=0.0,
        refuses=AVERAGES,
        lacks={"first steps": "its first estimate is far below any distance"},
    ),
    Case(
        "dog-decay",
        keras_adaptive.DoG,
        twins.dog,
        optax("contrib.dog", init_step=("heuristic", 0.5), eps=0.1, weight_decay=0.1),
        {"reps_rel": 0.5, "epsilon": 0.1, "average_power": 2.0, "weight_decay": 0.1},
        coupled=True,
        rate=1.0,
        elementwise=False,
        refuses=AVERAGES,
    ),
    Case(
        "dowg",
        keras_adaptive.DoWG,
        twins.dowg,
        optax("contrib.dowg"),
        wrong=(*WRONG_EPSILON, *WRONG_AVERAGE, {"initial_distance": 0.0}, {"initial_distance": -1.0}),
        coupled=True,
        rate=1.0,
        elementwise=False,
        moves=0.0,
        refuses=AVERAGES,
        lacks={"first steps": "its first estimate is far below any distance"},
    ),
    Case(
        "dowg-distance",
        keras_adaptive.DoWG,
        twins.dowg,
        optax("contrib.dowg", init_estim_sq_dist=4.0, eps=0.1, weight_decay=0.1),
        {"initial_distance": 2.0, "epsilon": 0.1, "average_power": 2.0, "weight_decay": 0.1},
        coupled=True,
        rate=1.0,
        elementwise=False,
        shared=100.0,
        refuses=AVERAGES,
    ),
]
