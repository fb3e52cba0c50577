"""Optimizers of matrices."""

from reference import oracles_large as oracles
from reference import twins
from reference.exact_large import EXACT

import keras_adaptive
from rows.case import Case

# If a factor does not have full rank, rounding decides the eigenvectors of its null space.
SQUARE = ((4, 4), (7,), (), (3, 0), (1,))
OF_NULL_SPACE = "where a factor has not full rank, rounding decides on the eigenvectors of its null space"
OF_VECTORS = "the factor of a vector has as many rows and columns"
OF_COMPANIONS = "vectors have a small part of the learning rate"
WRONG_COMPANION = (
    {"companion_learning_rate_multiplier": -0.1},
    {"companion_beta_1": 1.0},
    {"companion_beta_2": -0.1},
    {"companion_epsilon": 0.0},
    {"companion": "yes"},
    {"companion": 1},
    {"output_axes": 0},
    {"output_axes": "last"},
)
WRONG_MUON = (
    {"momentum": 1.0},
    {"nesterov": 1},
    {"steps": 0},
    {"steps": 2.5},
    {"scale": "keras"},
    {"coefficients": "polar"},
    {"coefficients": []},
    {"coefficients": [[3.0, -3.2]]},
    {"coefficients": [[3.0, -3.2, float("nan")]]},
    {"matmul_dtype": "float16"},
    {"per_head": 1},
    *WRONG_COMPANION,
)

ROWS = [
    Case(
        "muon-moonlight",
        keras_adaptive.Muon,
        twins.muon,
        moves=0.01,
        arguments={"scale": "moonlight", "nesterov": False, "momentum": 0.9, "weight_decay": 0.1},
        shapes=((4, 3), (3, 4), (5, 5), (7,), (), (3, 0)),
        wrong=WRONG_MUON,
    ),
    Case(
        "muon-keras",
        keras_adaptive.Muon,
        twins.muon,
        EXACT["muon-moonlight"][2],
        {"scale": "moonlight"},
        moves=0.01,
        shapes=((4, 3), (3, 5), (4, 4)),
        tolerance=(2e-6, "its momentum has another size beside the constant that is added to the norm"),
    ),
    Case(
        "muon",
        keras_adaptive.Muon,
        twins.muon,
        moves=0.01,
        shapes=((4, 3), (3, 4), (5, 5), (7,), (), (3, 0)),
        vector_rate=0.015,
        shared=50.0,
        lacks={"first steps": OF_COMPANIONS},
    ),
    Case(
        "muon-polar-express",
        keras_adaptive.Muon,
        twins.muon,
        moves=0.01,
        arguments={"coefficients": "polar_express", "scale": "spectral"},
        of_class={"steps": 9},
        of_twin={"newton_schulz_steps": 9},
        shapes=((4, 3), (3, 4), (5, 5), (7,), ()),
        vector_rate=0.015,
        shared=50.0,
        lacks={"first steps": OF_COMPANIONS},
    ),
    Case(
        "muon-adamuon",
        keras_adaptive.Muon,
        twins.muon,
        moves=0.01,
        arguments={
            "second_moment": "adamuon",
            "scale": "moonlight",
            "second_moment_beta": 0.8,
            "second_moment_epsilon": 1e-3,
            "coefficients": [[3.0, -3.2, 1.2], [2.0, -1.5, 0.5]],
        },
        shapes=((4, 3), (3, 4), (5, 5), (7,), (), (3, 0)),
        wrong=({"second_moment": "adam"}, {"second_moment_beta": 1.0}, {"second_moment_epsilon": 0.0}),
    ),
    Case(
        "normuon-moonlight",
        keras_adaptive.NorMuon,
        twins.normuon,
        moves=0.01,
        arguments={"scale": "moonlight", "nesterov": False, "momentum": 0.9, "beta_2": 0.8, "weight_decay": 0.1},
        shapes=((4, 3), (3, 4), (5, 5), (7,), (), (3, 0)),
        wrong=({"beta_2": 1.0}, *WRONG_MUON),
    ),
    Case(
        "normuon",
        keras_adaptive.NorMuon,
        twins.normuon,
        moves=0.01,
        shapes=((4, 3), (3, 4), (5, 5), (7,), (), (3, 0)),
        vector_rate=0.015,
        shared=50.0,
        lacks={"first steps": OF_COMPANIONS},
    ),
    Case(
        "soap-first-basis",
        keras_adaptive.Soap,
        twins.soap,
        oracles.single(
            oracles.pytorch_optimizer(
                "SOAP", betas=(0.9, 0.95), shampoo_beta=0.9, precondition_frequency=1000, weight_decay=0.0
            )
        ),
        {"frequency": 1000, "beta_1": 0.9, "shampoo_beta": 0.9},
        moves=0.001,
        of_class={"weight_decay": None},
        shapes=SQUARE,
        wrong=(
            {"beta_1": 1.0},
            {"beta_2": -0.1},
            {"shampoo_beta": 1.0},
            {"epsilon": 0.0},
            {"frequency": 0},
            {"max_size": 0.5},
        ),
        lacks={"smoothness": OF_NULL_SPACE},
    ),
    Case(
        "soap-every-axis",
        keras_adaptive.Soap,
        twins.soap,
        oracles.single(oracles.pytorch_optimizer("SOAP", precondition_frequency=3, weight_decay=0.0)),
        {"frequency": 3},
        of_class={"weight_decay": None},
        moves=0.01,
        shapes=SQUARE,
        tolerance=(1e-6, "its bases after the first are float32"),
        lacks={"smoothness": OF_NULL_SPACE},
    ),
    # The longest axis keeps the identity, so that the factors of the tests' matrices have full rank.
    Case(
        "soap",
        keras_adaptive.Soap,
        twins.soap,
        arguments={"frequency": 3, "max_size": 3},
        of_class={"weight_decay": None},
        moves=0.01,
    ),
    Case(
        "shampoo-original",
        keras_adaptive.Shampoo,
        twins.shampoo_original,
        oracles.single(oracles.pytorch_optimizer("Shampoo", preconditioning_compute_steps=1, matrix_eps=1e-4)),
        {"epsilon": 1e-4},
        elementwise=False,
        moves=0.01,
        shapes=((1,), (7,), (4, 3), (2, 1, 3, 2, 2)),
        of_class={"beta_1": 0.0, "beta_2": 1.0, "frequency": 1, "graft": None},
        wrong=(
            {"beta_1": 1.0},
            {"beta_2": 0.0},
            {"beta_2": 1.1},
            {"beta_3": 1.0},
            {"beta_3": 0.5, "beta_1": 0.0},
            {"epsilon": 0.0},
            {"frequency": 0},
            {"start": 0},
            {"block_size": 0},
            {"min_axes": 0},
            {"max_size": 0},
            {"graft": "lamb"},
            {"graft_epsilon": 0.0},
            {"nesterov": 1},
            {"momentum": 1.0},
            {"root": 0},
            {"merge_axes": None},
        ),
        lacks={
            "smoothness": "the roots of its factors have no floor but epsilon",
            "long vectors": OF_VECTORS,
        },
    ),
    Case(
        "shampoo-sgd",
        keras_adaptive.Shampoo,
        twins.shampoo,
        elementwise=False,
        arguments={"beta_1": 0.0, "beta_2": 1.0, "graft": "sgd", "frequency": 4, "start": 6, "epsilon": 1e-2},
        lacks={"long vectors": OF_VECTORS},
    ),
    Case(
        "shampoo",
        keras_adaptive.Shampoo,
        twins.shampoo,
        elementwise=False,
        arguments={
            "frequency": 3,
            "start": 1,
            "block_size": 3,
            "epsilon": 1e-2,
            "nesterov": True,
            "momentum": 0.25,
        },
    ),
]
