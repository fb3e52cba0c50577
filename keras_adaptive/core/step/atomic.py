"""All or nothing: an exception or Ctrl-C in the middle of a change must not leave half of it."""

import contextlib
import signal
import threading

from keras_adaptive.core.backends import running as backends


@contextlib.contextmanager
def uninterrupted():
    """Ctrl-C waits until the end of the block; a second Ctrl-C acts at once.

    This works only in the main thread, and only with Python's own handler: another handler is the user's and may not
    raise.
    """
    if backends.is_compiling():
        yield
        return
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    received = []

    def wait(number, frame):
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if received:
            raise KeyboardInterrupt


@contextlib.contextmanager
def nothing_if_raised(optimizer):
    """After an exception the optimizer has the same variables and attributes as before the block."""
    variables, attributes = optimizer.variables, dict(vars(optimizer))
    try:
        yield
    except BaseException:
        for variable in optimizer.variables[len(variables) :]:
            optimizer._untrack_variable(variable)
        for name in set(vars(optimizer)) - set(attributes):
            del vars(optimizer)[name]
        vars(optimizer).update(attributes)
        raise
