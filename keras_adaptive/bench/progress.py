"""How far a measurement is: Keras's progress bar, on stderr, so that what is printed stays a clean table."""

import contextlib
import sys

import keras


@contextlib.contextmanager
def progress(total: int):
    """A function to call after each step, with what was measured in it.

    Args:
        total: how often it will be called; fewer calls end the bar where it is.
    """
    bar = keras.utils.Progbar(total)
    done = 0

    def tick(what: str) -> None:
        nonlocal done
        done += 1
        # Its metrics are numbers alone. This shows as theirs do: "2s/step - Adam, large".
        bar.unit_name = f"step - {what}"
        with contextlib.redirect_stdout(sys.stderr):
            bar.add(1)

    try:
        yield tick
    finally:
        if done < total:
            with contextlib.redirect_stdout(sys.stderr):
                bar.update(done, finalize=True)
