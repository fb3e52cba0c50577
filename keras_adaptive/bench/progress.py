"""Keras's progress bar for a measurement. It goes to stderr, so that stdout has only the table."""

import contextlib
import sys

import keras


@contextlib.contextmanager
def progress(total: int):
    """A function to call after each step with the name of what was done, and how much of the total it was.

    Args:
        total: the number of steps. After fewer steps the bar ends early; more are not shown.
    """
    bar = keras.utils.Progbar(total)
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
