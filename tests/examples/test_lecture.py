"""The lecture's claims: a quick run of every measurement, and the criteria of the verdicts on made-up numbers."""

import importlib.util
import re
from types import SimpleNamespace

import numpy as np
import pytest
from scripts import ROOT, is_picture, picture_of, refused, result_of

pytestmark = pytest.mark.on("tensorflow")
PAGE = ROOT / "examples" / "lecture.md"


def block(text):
    return text.split("<!-- lecture -->\n")[1].split("<!-- /lecture -->")[0]


@pytest.mark.full
def test_every_claim_is_measured(run, tmp_path):
    """In a quick try; the table goes between its marks, and nothing else changes."""
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- lecture -->\nOLD TABLE\n<!-- /lecture -->\nafter\n", "utf-8")
    arguments = ["--quick", "--seeds", 2, "--readme", readme, "--strategy", "mirrored", "--replicas", 2]
    done = run("lecture.py", *arguments, backend="jax")
    result = result_of(done)
    assert float(result.pop("seconds")) > 0
    missed = result.pop("not_reproduced").replace("none", "").split(",")
    missed = [number for number in missed if number]
    assert result.pop("reproduced") == str(6 - len(missed))
    assert result == {"claims": "6", "backend": "jax", "strategy": "DataParallel", "replicas": "2", "seeds": "2"}
    text = readme.read_text("utf-8")
    assert re.fullmatch(r"before\n<!-- lecture -->\n.*\n<!-- /lecture -->\nafter\n", text, re.DOTALL)
    assert "OLD TABLE" not in text
    assert block(text) in done.stdout
    verdicts = re.findall(r"^\| (\d) \| .* \| \*\*(not )?reproduced.*\*\* \|$", text, re.MULTILINE)
    assert [number for number, _ in verdicts] == list("123456")
    assert [number for number, negated in verdicts if negated] == missed
    assert re.search(r"2 seeds, from 1 on.* Only a quick try", text)
    assert done.stdout.count("seeds 2, ") >= 20, "lines of progress"
    assert is_picture(picture_of(done))


@pytest.mark.parametrize(
    ("backend", "arguments", "claims", "strategy", "replicas"),
    [
        pytest.param("tensorflow", [], [1, 4, 5], "cpu", "1", marks=pytest.mark.variant),
        # Sparse gradients and the slots' values on two replicas; each step takes seconds to trace.
        pytest.param("tensorflow", ["--replicas", 2], [2, 4], "MirroredStrategy", "2", marks=pytest.mark.full),
        pytest.param("jax", ["--replicas", 2], [4, 6], "DataParallel", "2", marks=pytest.mark.variant),
        pytest.param("jax", ["--strategy", "cpu"], [3, 4], "cpu", "1", marks=pytest.mark.variant),
        pytest.param("torch", [], [4], "cpu", "1", marks=pytest.mark.variant),
    ],
)
def test_some_claims_on_each_strategy(run, tmp_path, backend, arguments, claims, strategy, replicas):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    chosen = ["--quick", "--seeds", 1, "--claims", *claims]
    done = run("lecture.py", *chosen, *arguments, backend=backend)
    result = result_of(done)
    facts = {"claims": str(len(claims)), "backend": backend, "strategy": strategy, "replicas": replicas, "seeds": "1"}
    assert result.items() >= facts.items()
    assert is_picture(picture_of(done))
    assert list(tmp_path.iterdir()) == []


def test_the_page_has_the_table_of_a_full_run():
    text = block(PAGE.read_text("utf-8"))
    assert [line[2] for line in text.splitlines() if line.endswith("** |")] == list("123456")
    seeds = re.search(r"± standard deviation over (\d+) seeds", text)
    assert int(seeds[1]) >= 3
    assert "quick try" not in text
    # The sixth alone may say no.
    assert [line[2] for line in text.splitlines() if "**not reproduced" in line] in ([], ["6"])


@pytest.mark.full
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--claims", 7], "--claims: invalid choice: 7"),
        (["--seed", 2**32 - 1, "--seeds", 2], "--seed and --seeds must end at 4294967295 or before"),
        (["--seeds", 0], "--seeds: must be a whole number, at least 1. Received: 0"),
        (["--readme", "missing.md"], "--readme must be a file with the lines <!-- lecture --> and <!-- /lecture -->"),
        (["--readme", "R.md", "--claims", 1], "--readme needs all claims. Received: --claims 1"),
        (["--replicas", 3], "--replicas must divide 32"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(run_here, tmp_path, arguments, message):
    (tmp_path / "R.md").write_text("<!-- lecture -->\n<!-- /lecture -->\n")
    refused(run_here("lecture.py", *arguments), message)
    assert [each.name for each in tmp_path.iterdir()] == ["R.md"]


# The criteria


@pytest.fixture
def claims(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    from lecture_claims import CLAIMS

    return CLAIMS


def seeds(*values):
    """The same for three seeds, which are the last axis."""
    return np.repeat(np.asarray(values, "float64")[..., np.newaxis], 3, axis=-1)


def made_up(number):
    """Numbers by which the claim holds."""
    if number == 1:
        sgd, adagrad = [0.1, 0.9, 0.1, 0.1], [0.1, 0.9, 0.88, 0.1]
        return {"rates": 10.0 ** np.arange(4), "accuracy": seeds(*[[sgd, adagrad]] * 3)}
    if number == 2:
        numbers = {f"{name} rates": np.array([0.1, 1.0]) for name in ("SGD", "Adagrad", "RMSprop", "Adam")}
        distance, loss = [[1, 9], [1, 2], [1, 1], [2, 1]], [[3, 2], [1, 2], [2, 2], [1, 2]]
        return numbers | {"chosen": [0, 1, 0, 1], "distance": seeds(*distance), "loss": seeds(*loss)}
    if number == 3:
        t = 1.0 + 10 * np.arange(50)
        return {"sizes": seeds(t**-0.5, t**-0.1), "losses": seeds([0.2, 0.9], [0.2, 0.3]), "period": np.array(300)}
    if number == 4:
        before, after = [[2, 1.5, 1.2], [2, 1, 3]], [[1.5, 1.2, 1.1], [1, 3, 2]]
        smoothness = seeds([1, 1, 1], [1, 2, 2])
        numbers = {"rates": np.array([0.5, 5.0]), "before": seeds(*before), "after": seeds(*after), "L": smoothness}
        return numbers | {"bound": seeds(*after) + 0.1}
    if number == 5:
        names = ("SGD text", "SGD control", "Adam text", "Adam control")
        rates = {f"{name} rates": np.array([0.1, 1.0]) for name in names}
        of_sgd = {"SGD bits": seeds(4, np.nan), "SGD returns": seeds(30, 20)}
        return rates | of_sgd | {"Adam bits": seeds(4, 3), "Adam returns": seeds(20, 200)}
    numbers = {}
    errors = {"128 SGD": 2, "128 Adam": 2.5, "512 SGD": 3.5, "512 Adam": 3.5, "512 Lars": 4, "512 Lamb": 2.8}
    for key, error in errors.items():
        numbers |= {f"{key} rates": np.array([0.1, 1.0]), f"{key} decays": np.array([0.0, 0.3]), f"{key} chosen": 1}
        numbers |= {f"{key} validation": np.full((2, 2, 1), 3.0), f"{key} test": seeds(error)[0]}
    return numbers


# One number changed in one seed: the claim, the name, the place and the value.
BREAKS = [
    (1, "accuracy", (2, 1, 2, 0), 0.85),
    (1, "accuracy", (0, 0, 2, 1), 0.9),
    (2, "distance", (1, 0, 0), 0.1),
    (2, "loss", (2, 0, 2), 3.5),
    (3, "sizes", (0, slice(None), 1), 1.0),
    (3, "sizes", (1, slice(1, None), 1), 1e-9),
    (3, "losses", (0, 1, 2), 0.3),
    (3, "losses", (1, 1, 0), 0.5),
    (4, "bound", (0, 1, 0), 1.0),
    (4, "after", (0, 2, 1), 1.21),
    (4, "after", (1, slice(None), 2), 0.5),
    (4, "L", (0, 0, 0), 0.1),
    (5, "Adam bits", (1, 0), 4.5),
    (5, "Adam returns", (1, 2), 25),
    (6, "128 Adam test", 1, 2.0),
    (6, "128 SGD test", 0, 2.6),
    (6, "512 Adam test", 2, 2.9),
    (6, "512 Lamb test", 0, 3.1),
]


@pytest.mark.parametrize("number", range(1, 7))
def test_a_claim_is_reproduced_by_numbers_that_meet_its_criterion(claims, number):
    text, reproduced = claims[number].judge(made_up(number))
    assert reproduced is True
    assert " ± " in text


@pytest.mark.parametrize(("number", "name", "place", "value"), BREAKS)
def test_one_number_of_one_seed_can_refute_a_claim(claims, number, name, place, value):
    numbers = made_up(number)
    numbers[name][place] = value
    assert claims[number].judge(numbers)[1] is False


def test_lars_or_lamb_may_reach_the_target(claims):
    numbers = made_up(6)
    lars, lamb = "512 Lars test", "512 Lamb test"
    numbers[lars], numbers[lamb] = numbers[lamb], numbers[lars]
    assert claims[6].judge(numbers)[1] is True


def test_settings_for_images_are_chosen_with_a_seed_and_data_that_are_not_reported(claims, monkeypatch):
    """Made-up trials: the validation error is least at η = λ = 0.1, and the test error is the seed."""
    from lecture_lab import Lab

    runs = []

    def trial(lab, size, name, decay, scorer, data):
        def run(rate, seed):
            runs.append((decay, round(rate, 2), seed))
            return [abs(np.log10(rate) + 1) + abs(decay - 0.1), seed]

        return run

    monkeypatch.setattr(claims[6], "_trial", trial)
    found = claims[6]._tuned(Lab(SimpleNamespace(is_chief=False), [7, 8]), 128, "SGD", None, None)
    assert [seed for _, _, seed in runs[:-2]] == 12 * [9]
    assert runs[-2:] == [(0.1, 0.1, 7), (0.1, 0.1, 8)]
    assert found["128 SGD test"].tolist() == [7, 8]
    text, _ = claims[6].judge(made_up(6) | {key: found[key] for key in found if not key.endswith("test")})
    assert "(η = 0.1, of 0.032 to 0.32; λ = 0.1, of 0, 0.1, 0.3, 1)" in text
