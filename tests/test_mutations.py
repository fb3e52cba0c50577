"""Swapped hyperparameters, a wrong sign, a missing term: each mistake in a rule makes test_rules.py fail on a row."""

import pytest
from cases import ROWS
from mutants import mutants
from test_rules import TOLERANCE, gap

# A rule makes the same numbers everywhere, and nothing has to be compiled on torch.
pytestmark = [pytest.mark.full, pytest.mark.on("torch")]

SEEN = 100 * TOLERANCE
OF_A_SIGN = "m has the other sign, and only its {} counts"
OF_A_SCALE = "{} is larger by a factor that {} do not depend on"
GUARD = "a guard of {}"

# Mutants that no numbers can show, with the reason.
EQUAL = {
    "DAdaptAdam": {
        "next_s: 1 - beta_3 -> 1": OF_A_SCALE.format("s", "the estimates, its quotients,"),
        "next_s: 1 - beta_3 -> 1 + beta_3": OF_A_SCALE.format("s", "the estimates, its quotients,"),
    },
    "Grams": {
        "rule: h.beta_1 * m + (1 - h.beta_1) * g -> h.beta_1 * m - (1 - h.beta_1) * g": OF_A_SIGN.format("size"),
    },
    "Prodigy": {
        "next_s: self.beta_3_of(h) * s + d / h.d_0 * (d if h.safeguard_warmup else delta) * g -> "
        "self.beta_3_of(h) * s - d / h.d_0 * (d if h.safeguard_warmup else delta) * g": "only the size of s counts",
    },
    "RMSprop": {"rule: h.rho * m + (1 - h.rho) * g -> h.rho * m - (1 - h.rho) * g": OF_A_SIGN.format("square")},
    "Shampoo": {
        "preconditioned: matrices.norms(U) + 1e-16 -> matrices.norms(U)": GUARD.format("norms that are 0"),
        "preconditioned: matrices.norms(U) + 1e-16 -> matrices.norms(U) - 1e-16": GUARD.format("norms that are 0"),
        **{
            "_inverse_root: values - ops.where(lowest < 0.0, lowest, ops.zeros_like(lowest)) -> "
            + changed: GUARD.format("eigenvalues that rounding makes negative; tests/test_matrices.py holds it")
            for changed in ("values", "values + ops.where(lowest < 0.0, lowest, ops.zeros_like(lowest))")
        },
    },
    "Soap": {
        "rule: 1 - beta -> 1": OF_A_SCALE.format("L", "its eigenvectors"),
        "rule: 1 - beta -> 1 + beta": OF_A_SCALE.format("L", "its eigenvectors"),
        **{
            f"rule: {STEP} + 0.0 * g -> {changed}": GUARD.format("a first gradient that is not finite")
            for STEP in ["sqrt(h.debias(h.beta_2)) / h.debias(h.beta_1) * d"]
            for changed in (STEP, f"{STEP} - 0.0 * g")
        },
    },
    "Tiger": {
        "rule: 1 - h.beta -> 1": OF_A_SCALE.format("m", "its signs"),
        "rule: 1 - h.beta -> 1 + h.beta": OF_A_SCALE.format("m", "its signs"),
    },
}


def is_seen(rows):
    """Whether the test of some row fails, be it with an error."""
    for case in rows:
        try:
            if not gap(case) <= SEEN:
                return True
        except Exception:
            return True
    return False


@pytest.mark.parametrize("cls", sorted({case.optimizer for case in ROWS}, key=lambda cls: cls.__name__))
def test_every_mistake_is_detected(cls, float64):
    rows = [case for case in ROWS if case.optimizer is cls]
    assert all(gap(case) <= TOLERANCE for case in rows)
    kinds, unseen = set(), set()
    for mutant in mutants(cls):
        kinds.add(mutant.kind)
        with mutant.made():
            if not is_seen(rows):
                unseen.add(mutant.change)
    assert {"sign", "term"} <= kinds
    assert unseen == set(EQUAL.get(cls.__name__, {}))
