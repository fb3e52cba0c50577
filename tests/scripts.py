"""Runs the examples as a user does, as processes, and reads what they print and write."""

import contextlib
import importlib.util
import io
import os
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What the world of the tests sets, or this machine, and the script decides.
NOT_A_USERS = ("XLA_FLAGS", "NPROC", "JAX_ENABLE_X64")


def environment_of(backend):
    """What a user's process has, with the package of this checkout."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_A_USERS}
    environment |= {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    # Else torch's threads wait for each other where several processes share two cores.
    return environment | {"OMP_NUM_THREADS": "1"}


# Where an example runs in its short form: two replicas in every run, one device and torch in place of them.
everywhere = pytest.mark.parametrize(
    ("backend", "arguments", "strategy", "replicas"),
    [
        ("jax", ["--replicas", 2], "DataParallel", "2"),
        pytest.param("tensorflow", ["--replicas", 2], "MirroredStrategy", "2", marks=pytest.mark.full),
        *(
            pytest.param(
                *(backend, [], "cpu", "1"),
                marks=[
                    pytest.mark.variant,
                    pytest.mark.skipif(importlib.util.find_spec(backend) is None, reason=f"{backend} is not installed"),
                ],
            )
            for backend in ("tensorflow", "jax", "torch")
        ),
    ],
)


def run_at_once(script, configurations, arguments, folder, backend="tensorflow"):
    """Runs a file of examples/ in that folder, in one process per configuration."""
    temporary = folder.with_name(f"{folder.name}_temporary")
    temporary.mkdir(exist_ok=True)
    environment = environment_of(backend) | {"TMPDIR": str(temporary)}
    command = [sys.executable, str(ROOT / "examples" / script), *map(str, arguments)]

    def one(configuration):
        return subprocess.run(
            command, env=environment | configuration, cwd=folder, capture_output=True, text=True, timeout=900
        )

    with ThreadPoolExecutor(len(configurations)) as threads:
        return list(threads.map(one, configurations))


def run_here(script, arguments, folder, environment):
    """Runs a file of examples/ in that folder, in this process, which has loaded Keras: for what ends before it trains.

    What it says and how it ends, as of a process.
    """
    path, out, err = ROOT / "examples" / script, io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        patch.syspath_prepend(str(path.parent))
        for name, value in environment.items():
            patch.setenv(name, value)
        code = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_path(str(path), run_name="__main__")
            except SystemExit as end:
                code = end.code if isinstance(end.code, int | None) else 1
                print("" if isinstance(end.code, int | None) else end.code, file=err)
    return subprocess.CompletedProcess([sys.executable, str(path)], code or 0, out.getvalue(), err.getvalue().strip())


def result_of(done):
    """The facts of the last line."""
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return dict(pair.split("=") for pair in done.stdout.splitlines()[-1].split())


def picture_of(done):
    """The file that the line before the last one names."""
    return Path(done.stdout.splitlines()[-2].rpartition(": ")[2])


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


def refused(done, message, code=2):
    """That exit code, and nothing of ours but one line; TensorFlow's own lines come before it."""
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-4000:]
    *others, last = done.stderr.splitlines()
    script = Path(done.args[1]).name
    assert last.startswith(f"{script}: ")
    assert message in last
    assert not [line for line in others if line.startswith((script, "Traceback", "usage"))]
