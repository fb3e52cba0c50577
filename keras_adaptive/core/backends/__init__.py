"""The backend of Keras in this process, as `running`.

Each module with the name of a backend follows the protocol (protocol.py); only the running one is imported. Modules
whose names begin with a backend's name are parts of it. Only this folder, and those of `keras_adaptive.bench`, import
a backend.
"""

import keras

from keras_adaptive.core.backends.protocol import Backend


def _running() -> Backend:
    if keras.backend.backend() == "tensorflow":
        from keras_adaptive.core.backends import tensorflow

        return tensorflow
    if keras.backend.backend() == "jax":
        from keras_adaptive.core.backends import jax

        return jax
    if keras.backend.backend() == "torch":
        from keras_adaptive.core.backends import torch

        return torch
    raise ImportError(
        "keras_adaptive trains on the Keras backends tensorflow, jax and torch. "
        f"Received: KERAS_BACKEND={keras.backend.backend()!r}"
    )


running = _running()
