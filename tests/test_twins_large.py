"""The twins for large batches, without a learning rate and for matrices match exact implementations."""

import numpy as np
import pytest
from reference import twins
from reference.exact_large import COUPLED, EXACT, ONLY
from reference.oracles_large import pytorch_optimizer
from support import SHAPES, Problem, Ramp, difference

pytestmark = pytest.mark.on("torch")

STEPS = 50
SCALES = [1.0, 1e-4, 1e-8]


def rows(table):
    return [(name, scale) for name in table for scale in ONLY.get(name, {}).get("scales", SCALES)]


def problem_of(name, scale):
    return Problem(seed=31, scale=scale, shapes=ONLY.get(name, {}).get("shapes", SHAPES), steps=STEPS)


def schedule_of(name, peak):
    schedule = ONLY.get(name, {}).get("schedule")
    if schedule == "constant":
        return lambda t: peak
    return Ramp(peak).at if schedule is None else lambda t: Ramp(peak).at(t + 1)


@pytest.mark.parametrize(("name", "scale"), rows(EXACT))
def test_twin_matches_the_oracle(name, scale, float64):
    twin, arguments, oracle, tolerance = EXACT[name]
    problem, eta = problem_of(name, scale), schedule_of(name, 0.05)
    theirs = oracle.together(problem.start, problem.gradients, eta, STEPS)
    assert difference(problem.reference(twin, eta, **arguments), theirs) <= tolerance


@pytest.mark.parametrize(("name", "scale"), rows(COUPLED))
def test_coupled_twin_matches_the_oracle(name, scale):
    twin, arguments, oracle, tolerance = COUPLED[name]
    problem, eta = problem_of(name, scale), schedule_of(name, 1.0)
    ours = twin(problem.start, problem.gradients, eta, STEPS, **arguments)
    assert difference(ours, oracle(problem.start, problem.gradients, eta, STEPS)) <= tolerance


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shape", [(4, 3), (3, 5), (4, 4)])
def test_normuon_matches_the_oracle_with_an_exact_iteration(shape, nesterov, monkeypatch):
    """pytorch_optimizer iterates in bfloat16, and its matrices have their outputs first."""
    pytest.importorskip("pytorch_optimizer", reason="pytorch_optimizer is one of the outside oracles")
    import torch
    from pytorch_optimizer.optimizer.muon import normuon

    def iteration(g, **_):
        return torch.tensor(twins.newton_schulz(g.numpy()))

    monkeypatch.setattr(normuon, "zero_power_via_newton_schulz_5", iteration)
    problem, eta = Problem(seed=32, shapes=[shape], steps=STEPS), Ramp(0.05).at
    variable = torch.tensor(problem.start[0].T.copy(), requires_grad=True)
    group = {"params": [variable], "use_muon": True}
    settings = {"momentum": 0.95, "beta2": 0.95, "nesterov": nesterov, "eps": 1e-8, "weight_decay": 0.1}
    optimizer = normuon.NorMuon([group], lr=1.0, foreach=False, **settings)
    for t in range(1, STEPS + 1):
        optimizer.param_groups[0]["lr"] = eta(t)
        g = problem.gradient(0)(t, variable.detach().numpy().T)
        variable.grad = torch.tensor(g.T.copy())
        optimizer.step()
    (ours,) = problem.reference(twins.normuon, eta, nesterov=nesterov, weight_decay=0.1)
    assert difference([ours], [variable.detach().numpy().T]) <= 1e-12


@pytest.mark.parametrize("frequency", [1, 3, 10])
def test_soap_matches_the_oracle_with_exact_bases(frequency, monkeypatch):
    """pytorch_optimizer decomposes in float32, by that name."""
    pytest.importorskip("pytorch_optimizer", reason="pytorch_optimizer is one of the outside oracles")
    import torch
    from pytorch_optimizer.optimizer import soap

    class Wide:
        float32 = torch.float64

        def __getattr__(self, name):
            return getattr(torch, name)

    monkeypatch.setattr(soap, "torch", Wide())
    problem, eta = problem_of("soap", 1.0), Ramp(0.05).at
    oracle = pytorch_optimizer("SOAP", weight_decay=0.0, precondition_frequency=frequency)
    theirs = oracle(problem.start, problem.gradients, eta, STEPS)
    assert difference(problem.reference(twins.soap, eta, frequency=frequency), theirs) <= 1e-12


def rosenbrock(t, thetas):
    ((x, y),) = thetas
    return [np.array([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])]


@pytest.mark.parametrize(("twin", "end"), [(twins.prodigy, 2.604164e-2), (twins.dog, 6.044633), (twins.dowg, 4.909432)])
def test_rosenbrock_ends_at_the_recorded_loss(twin, end):
    """After 400 steps from (-2, 2) with learning rate 1."""
    ((x, y),) = twin([np.array([-2.0, 2.0])], rosenbrock, lambda t: 1.0, 400)
    assert (1 - x) ** 2 + 100 * (y - x**2) ** 2 == pytest.approx(end, rel=3e-7)


@pytest.mark.parametrize(
    ("rate", "beta", "end"), [(0.019, 0.9, 2.9017e-4), (0.02, 0.98, 1.140755e-3), (0.005, 0.9, 1.516346e-3)]
)
def test_schedule_free_sgd_ends_at_the_recorded_values_on_a_quadratic(rate, beta, end):
    slopes = np.array([1.0, 10.0, 100.0])
    x = twins.schedule_free_sgd(
        np.ones(3), lambda t, y: slopes * y, lambda t: rate, 1000, beta=beta, return_average=True
    )
    assert np.sum(slopes * x**2) / 2 == pytest.approx(end, rel=2e-5)
