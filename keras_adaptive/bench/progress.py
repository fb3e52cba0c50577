"""Keras's progress bar for a measurement. It goes to stderr, so that stdout has only the table."""

import contextlib
import sys
from typing import Any

import keras


@contextlib.contextmanager
def progress(total: int):
    """A function to call after each step with the name of what was done, and how much of the total it was.

    There is a bar on a terminal only. Elsewhere, as in a log file, there is a line for every tenth of the total.

    Args:
        total: the number of steps. After fewer steps the bar ends early; more are not shown.
    """
    bar: Any = keras.utils.Progbar(total) if sys.stderr.isatty() else _Lines(total)
    done = 0

    def tick(what: str, amount: int = 1) -> None:
        nonlocal done
        amount = min(amount, total - done)
        if not amount:
            return
        done += amount
        # The bar shows only numbers as metrics. This text looks like one: "2s/step - Adam, large".
        bar.unit_name = f"step - {what}"
        with contextlib.redirect_stdout(sys.stderr):
            bar.add(amount)

    try:
        yield tick
    finally:
        if done < total:
            with contextlib.redirect_stdout(sys.stderr):
                bar.update(done, finalize=True)


class _Lines:
    """Prints a line for every tenth, in place of Keras's bar: "20 % - Adam, large"."""

    unit_name = "step"

    def __init__(self, total):
        self._total, self._done = total, 0

    def add(self, amount):
        before = 10 * self._done // self._total
        self._done += amount
        if 10 * self._done // self._total > before:
            print(f"{100 * self._done // self._total} % {self.unit_name.removeprefix('step ')}", flush=True)

    def update(self, done, finalize):
        """The bar's method for an early end, after which there is nothing to print."""
