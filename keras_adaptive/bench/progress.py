"""Keras's progress bar for a measurement. It goes to stderr, so that stdout has only the table."""

import contextlib
import sys

import keras


@contextlib.contextmanager
def progress(total: int):
    """A function to call after each step with the name of what was measured.

    Args:
        total: the number of calls. After fewer calls the bar ends early.
    """
    bar = keras.utils.Progbar(total)
    done = 0

    def tick(what: str) -> None:
        nonlocal done
        done += 1
        # The bar shows only numbers as metrics. This text looks like one: "2s/step - Adam, large".
        bar.unit_name = f"step - {what}"
        with contextlib.redirect_stdout(sys.stderr):
            bar.add(1)

    try:
        yield tick
    finally:
        if done < total:
            with contextlib.redirect_stdout(sys.stderr):
                bar.update(done, finalize=True)
