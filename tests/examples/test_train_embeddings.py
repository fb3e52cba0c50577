"""Word embeddings by three Adams: their time, and their errors against float64."""

import pytest
from scripts import everywhere, is_picture, picture_of, refused, result_of

pytestmark = pytest.mark.on("tensorflow")


@everywhere
def test_times_and_errors(run, tmp_path, backend, arguments, strategy, replicas):
    """Keras's Adam is wrong where the gradient holds rows that repeat, and ours nowhere."""
    short = ["--steps", 8, "--rows", 5000, "--size", 16, "--batch-size", 256]
    done = run("train_embeddings.py", *short, *arguments, backend=backend)
    result = result_of(done)
    facts = {"optimizer": "Adam", "backend": backend, "strategy": strategy, "replicas": replicas, "steps": "8"}
    assert result.items() >= facts.items()
    assert all(float(result[f"{kind}_ms"]) > 0 for kind in ("keras", "exact", "lazy"))
    errors = {kind: float(result[f"{kind}_error"]) for kind in ("keras", "exact", "lazy")}
    assert errors["exact"] < 1e-3
    assert errors["lazy"] < 1e-3
    sparse = backend == "tensorflow"
    assert errors["keras"] > 0.5 if sparse else errors["keras"] < 1e-2
    assert ("hold the rows of a batch" if sparse else "are dense") in done.stdout
    assert is_picture(picture_of(done))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", 5], "--steps must be more than 5. Received: 5"),
        (["--learning-rate", 0], "--learning-rate must be above 0 here. Received: 0.0"),
        (["--batch-size", 1000000], "--batch-size must be at most 6"),
        (["--text", "missing.txt"], "--text must be a file that can be read. Received: missing.txt"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(run_here, arguments, message):
    refused(run_here("train_embeddings.py", *arguments), message)
