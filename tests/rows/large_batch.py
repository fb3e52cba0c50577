"""Algorithms for large batches."""

from functools import partial

from reference import oracles, oracles_large, twins
from reference.exact_large import EXACT

import keras_adaptive
from rows.case import Case


def oracle(name):
    """That of the pair of twin and oracle of this name."""
    return EXACT[name][2]


def lars_by_optax(classic):
    """Its own links, as its LARS has no popular momentum and no decay that leaves out vectors."""

    def links(optax, rate, of_matrices):
        decay = optax.add_decayed_weights(0.01, mask=of_matrices)
        ratio = optax.masked(optax.scale_by_trust_ratio(trust_coefficient=0.5), of_matrices)
        return [decay, ratio, rate, optax.trace(0.9)] if classic else [decay, optax.trace(0.9), ratio, rate]

    return oracles_large.single(oracles_large.optax_chain(links))


WRONG_LARS = (
    {"momentum": 1.0},
    {"trust_coefficient": 0.0},
    {"trust_coefficient": float("inf")},
    {"form": "both"},
    {"form": None},
    {"momentum_form": "nesterov"},
    {"exclude_vectors": 1},
    {"weight_decay": -0.1},
)
WRONG_LAMB = (
    {"beta_1": 1.0},
    {"beta_2": -0.1},
    {"epsilon": 0.0},
    {"epsilon": 1e-50},
    {"use_bias_correction": 1},
    {"phi_lower": -1.0},
    {"phi_upper": 0.0},
    {"phi_lower": 2.0, "phi_upper": 1.0},
    {"exclude_vectors": "bias"},
    {"weight_decay": -0.1},
)
WRONG_CAME = (
    {"beta_1": 1.0},
    {"beta_2": 1.0},
    {"beta_3": -0.1},
    {"epsilon_1": 0.0},
    {"epsilon_2": 0.0},
    {"epsilon_2": float("nan")},
    {"clip_threshold": 0.0},
)
NORM = {"form": "norm", "trust_coefficient": 0.5, "weight_decay": 0.01}
BETAS = {"beta_1": 0.8, "beta_2": 0.99}

# An element's step depends on the gradients of the others.
Whole = partial(Case, elementwise=False)

ROWS = [
    Case("lars-norm", keras_adaptive.Lars, twins.lars, lars_by_optax(classic=True), NORM, stops=False),
    Whole(
        "lars-norm-every",
        keras_adaptive.Lars,
        twins.lars,
        oracles.optax("lars", weight_decay=0.01, trust_coefficient=0.5, momentum=0.9),
        {**NORM, "exclude_vectors": False},
        stops=False,
    ),
    Case(
        "lars-popular",
        keras_adaptive.Lars,
        twins.lars,
        lars_by_optax(classic=False),
        {**NORM, "momentum_form": "popular"},
    ),
    Case(
        "lars-popular-sum",
        keras_adaptive.Lars,
        twins.lars,
        arguments={"trust_coefficient": 0.5, "momentum_form": "popular", "momentum": 0.8, "weight_decay": 0.1},
    ),
    Case(
        "lars",
        keras_adaptive.Lars,
        twins.lars,
        arguments={"trust_coefficient": 0.5, "weight_decay": 0.1},
        stops=False,
        wrong=WRONG_LARS,
    ),
    Whole(
        "lamb-every",
        keras_adaptive.Lamb,
        twins.lamb,
        oracle("lamb-every"),
        {**BETAS, "exclude_vectors": False, "weight_decay": 0.1},
    ),
    Case("lamb-raw", keras_adaptive.Lamb, twins.lamb, arguments={"use_bias_correction": False, "epsilon": 1e-4}),
    Case("lamb-bounds", keras_adaptive.Lamb, twins.lamb, arguments={"phi_lower": 2.0, "phi_upper": 2.5}),
    Case("lamb", keras_adaptive.Lamb, twins.lamb, oracle("lamb"), {"weight_decay": 0.01}, WRONG_LAMB),
    Whole("merit-plain", keras_adaptive.Merit, twins.merit, arguments={**BETAS, "epsilon": 1e-8}),
    Whole(
        "merit",
        keras_adaptive.Merit,
        twins.merit,
        arguments={"weight_decay": 0.1},
        wrong=({"beta_1": 1.0}, {"beta_2": -0.1}, {"epsilon": 0.0}, {"weight_decay": -0.1}),
    ),
    Whole(
        "came-betas",
        keras_adaptive.Came,
        twins.came,
        oracle("came-betas"),
        {**BETAS, "beta_3": 0.999, "clip_threshold": 0.5},
    ),
    Whole("came-epsilons", keras_adaptive.Came, twins.came, arguments={"epsilon_1": 1e-10, "epsilon_2": 1e-4}),
    Whole("came", keras_adaptive.Came, twins.came, oracle("came"), {"weight_decay": 0.1}, WRONG_CAME),
]
