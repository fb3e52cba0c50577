"""Keras and keras_adaptive side by side: a quick run of every comparison, and the verdicts on made-up numbers."""

import re

import numpy as np
import pytest
from scripts import ROOT, is_picture, picture_of, refused, result_of

pytestmark = pytest.mark.on("tensorflow")
PAGE = ROOT / "examples" / "keras_compared.md"
VERDICTS = "keras_adaptive ahead", "Keras ahead", "no difference seen"


def block(text):
    return text.split("<!-- keras_compared -->\n")[1].split("<!-- /keras_compared -->")[0]


def verdicts(text):
    """Those of the rows, each with the number of its comparison."""
    return re.findall(r"^\| (\d) \| .* \| \*\*(.*)\*\* \|$", block(text), re.MULTILINE)


@pytest.mark.full
def test_every_comparison_is_measured(run, tmp_path):
    """In a quick try; the table goes between its marks, and nothing else changes."""
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- keras_compared -->\nOLD\n<!-- /keras_compared -->\nafter\n", "utf-8")
    done = run("keras_compared.py", "--quick", "--seeds", 2, "--readme", readme)
    result = result_of(done)
    assert float(result.pop("seconds")) > 0
    text = readme.read_text("utf-8")
    assert re.fullmatch(r"before\n<!-- keras_compared -->\n.*\n<!-- /keras_compared -->\nafter\n", text, re.DOTALL)
    assert "OLD" not in text
    assert block(text) in done.stdout
    found = [verdict for _, verdict in verdicts(text)]
    counts = dict(zip(("ahead", "behind", "no_difference"), map(str, map(found.count, VERDICTS)), strict=True))
    assert result == {"comparisons": "9", "backend": "tensorflow", "seeds": "2"} | counts
    assert len(found) == sum(map(int, counts.values()))
    assert [number for number, _ in dict.fromkeys((number, "") for number, _ in verdicts(text))] == list("123456789")
    assert re.search(r"2 seeds, from 1 on.* Only a quick try", text)
    lines = re.findall(r"^([\w-]+): tensorflow(, 2 replicas)?, seeds 2, [\d.]+ s$", done.stdout, re.MULTILINE)
    assert len(lines) == 9
    assert [name for name, replicas in lines if replicas] == ["clipping", "infinity"]
    assert is_picture(picture_of(done))


@pytest.mark.variant
def test_a_comparison_that_needs_tensorflow_runs_there(run):
    done = run("keras_compared.py", "--quick", "--seeds", 2, "--only", "words", "unfrozen", backend="jax")
    assert result_of(done).items() >= {"comparisons": "2", "backend": "jax"}.items()
    assert re.search("^words: tensorflow, seeds 2", done.stdout, re.MULTILINE)
    assert re.search("^unfrozen: jax, seeds 2", done.stdout, re.MULTILINE)


def test_the_page_has_the_table_of_a_full_run():
    text = PAGE.read_text("utf-8")
    found = verdicts(text)
    assert {number for number, _ in found} == set("123456789")
    assert {verdict for _, verdict in found} <= set(VERDICTS)
    seeds = re.search(r"± standard deviation over (\d+) seeds", block(text))
    assert int(seeds[1]) >= 5
    assert "quick try" not in text
    assert "](pictures/keras_compared.png)" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "adam"], "--only: invalid choice: 'adam'"),
        (["--seeds", 1], "--seeds must be 2 or more, as one seed has no spread. Received: 1"),
        (["--seed", 2**32 - 1, "--seeds", 2], "--seed and --seeds must end at 4294967295 or before"),
        (["--readme", "missing.md"], "--readme must be a file with the lines <!-- keras_compared --> and"),
        (["--readme", "R.md", "--only", "muon"], "--readme needs all comparisons. Received: --only muon"),
        (["--output", "picture.jpg"], "--output must be a .png file"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(run_here, tmp_path, arguments, message):
    (tmp_path / "R.md").write_text("<!-- keras_compared -->\n<!-- /keras_compared -->\n")
    refused(run_here("keras_compared.py", *arguments), message)
    assert [each.name for each in tmp_path.iterdir()] == ["R.md"]


# The verdicts


@pytest.fixture
def compared(monkeypatch):
    """The modules of the script."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    import compared_lab
    import compared_worker
    import keras_compared

    assert list(compared_worker.COMPARISONS) == list(keras_compared.PLACES)
    return compared_lab, compared_worker.COMPARISONS, keras_compared


THEIRS, OURS = [0.90, 0.91, 0.92], [0.93, 0.94, 0.96]


def test_one_is_ahead_if_its_worst_seed_beats_the_others_best(compared):
    verdict = compared[0].verdict
    assert verdict(THEIRS, OURS, 0.005) == "keras_adaptive ahead"
    assert verdict(OURS, THEIRS, 0.005) == "Keras ahead"
    assert verdict(THEIRS, OURS, 0.005, higher_is_better=False) == "Keras ahead"
    assert verdict(OURS, THEIRS, 0.005, higher_is_better=False) == "keras_adaptive ahead"


@pytest.mark.parametrize("seed", range(3))
def test_one_number_of_one_seed_can_change_the_verdict(compared, seed):
    verdict = compared[0].verdict
    assert verdict(THEIRS, np.where(np.arange(3) == seed, THEIRS, OURS), 0.005) == "no difference seen"
    assert verdict(np.where(np.arange(3) == seed, 0.97, THEIRS), OURS, 0.005) == "no difference seen"


def test_a_difference_within_the_spread_is_none(compared):
    """Also where each pair of seeds says the same."""
    verdict = compared[0].verdict
    assert verdict([0.5, 0.6, 0.7], [0.55, 0.65, 0.75], 0.005) == "no difference seen"


def test_a_difference_that_is_too_small_is_none(compared):
    verdict = compared[0].verdict
    assert verdict([0.5, 0.5], [0.505, 0.505], 0.01) == "no difference seen"
    assert verdict([0.5, 0.5], [0.515, 0.515], 0.01) == "keras_adaptive ahead"
    assert verdict([0.5, 0.5], [0.5, 0.5], 0.0) == "no difference seen"


@pytest.mark.parametrize("nan", [np.nan, np.inf])
def test_what_diverged_is_worse_than_any_number(compared, nan):
    """As a loss; but one seed of three is not enough if the others are equal."""
    verdict = compared[0].verdict
    assert verdict([nan] * 2, [9.0, 9.0], 0.005, higher_is_better=False) == "keras_adaptive ahead"
    assert verdict([9.0, 9.0], [nan] * 2, 0.005, higher_is_better=False) == "Keras ahead"
    assert verdict([nan] * 2, [nan] * 2, 0.005, higher_is_better=False) == "no difference seen"
    assert verdict([nan, 9.0], [9.0, 9.0], 0.005, higher_is_better=False) == "no difference seen"


def test_a_difference_that_is_rounding_is_printed_as_such(compared):
    _, comparisons, _ = compared
    assert comparisons["clipping"].printed([1e-8, 3e-8]) == "<1e-5"
    assert comparisons["clipping"].printed([0.1, 0.2]) == "0.15 ± 0.05"
    assert comparisons["clipping"].printed([np.nan, 0.2]) == "nan ± nan"
    assert comparisons["lamb"].printed([0.9, 1.0]) == "0.950 ± 0.050"


def made_up():
    """For each comparison numbers by which ours is ahead, in two seeds."""
    low, high = [0.1, 0.2], [0.8, 0.9]
    epochs = {"keras": [low, low], "ours": [high, high]}
    return {
        "bfloat16": {
            "rates": [1e-4, 1e-3],
            **{name: [low, low] for name in ("keras", "keras float32")},
            **{name: [high, high] for name in ("ours", "rounded")},
        },
        "accumulation": {f"{name} {counted}": epochs[name] for name in epochs for counted in ("updates", "micro")},
        "muon": {"rates": [1e-3, 1e-2]} | epochs,
        "clipping": {"keras": [high, high], "ours": [[1e-8, 1e-8]] * 2},
        "infinity": epochs | {"before": 1, "ours wrapped": [high, high]},
        "unfrozen": {
            **{f"{name} {part}": [high, high] for name in epochs for part in ("resumed", "never stopped")},
            **{"keras difference": [high], "ours difference": [[1e-8, 1e-8]]},
        },
        "schedule-free": epochs | {"ours trained": [high, high]},
        "lamb": {"keras": low, "ours": high},
        "words": {"keras": high, "ours": low},
    }


def test_every_comparison_judges_the_last_numbers_of_each_side(compared):
    _, comparisons, script = compared
    for name, numbers in made_up().items():
        found = script.judged(comparisons[name], numbers).rows
        assert found
        assert {verdict for _, verdict in found} == {"keras_adaptive ahead"}, name


def test_muon_is_judged_at_the_best_rate_of_each_too(compared):
    _, comparisons, script = compared
    numbers = {"rates": [1e-3, 1e-2], "keras": [[0.9, 0.9], [0.1, 0.1]], "ours": [[0.2, 0.2], [0.8, 0.8]]}
    rows = {row.setting: verdict for row, verdict in script.judged(comparisons["muon"], numbers).rows}
    assert rows == {
        "Muon on attention, each at its best rate (Keras 0.001, ours 0.01)": "Keras ahead",
        "Muon on attention at 0.001": "Keras ahead",
        "Muon on attention at 0.01": "keras_adaptive ahead",
    }


def test_the_picture_has_a_panel_for_all_but_two(compared):
    _, comparisons, script = compared
    findings = [script.judged(comparisons[name], numbers) for name, numbers in made_up().items()]
    *panels, last = script.draw(findings).axes
    assert [axis.get_title() for axis in panels] == [each.comparison.title for each in findings[:-2]]
    assert len({axis.get_title() for axis in panels}) == 7
    (legend,) = last.texts
    verdicts = [verdict for each in findings for _, verdict in each.rows]
    assert f"{len(verdicts)} keras_adaptive ahead\n" in legend.get_text()
    assert all(each.comparison.title in legend.get_text() for each in findings[-2:])
