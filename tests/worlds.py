"""The worlds that tests run in: a backend is chosen when Keras is imported, so each world is a separate process.

`KERAS_ADAPTIVE_WORLD=mirrored pytest` enters one; .ci/run enters all.
"""

import importlib.util
import os
import runpy

# Not imported: importing the package imports Keras.
(_PACKAGE,) = importlib.util.find_spec("keras_adaptive").submodule_search_locations
_TPU = runpy.run_path(f"{_PACKAGE}/bench/environment.py")

# For each world what its process is started with.
WORLDS = {
    "tensorflow": {"KERAS_BACKEND": "tensorflow"},
    "mirrored": {"KERAS_BACKEND": "tensorflow", "KERAS_ADAPTIVE_REPLICAS": "2"},
    "mirrored-4": {"KERAS_BACKEND": "tensorflow", "KERAS_ADAPTIVE_REPLICAS": "4"},
    "jax": {"KERAS_BACKEND": "jax"},
    # With fewer threads than devices, devices that wait for each other could wait for ever.
    "jax-devices": {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=8", "NPROC": "32"},
    "torch": {"KERAS_BACKEND": "torch"},
    "tpu-jax": {"KERAS_BACKEND": "jax", **_TPU["ENVIRONMENT"]},
    "tpu-tensorflow": {"KERAS_BACKEND": "tensorflow", **_TPU["ENVIRONMENT"]},
}
# JAX is float32 in silence without x64. It serves as an oracle in other worlds too.
_EVERYWHERE = {"JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def current() -> str:
    """The world of this process."""
    return os.environ.get("KERAS_ADAPTIVE_WORLD") or os.environ.get("KERAS_BACKEND") or "tensorflow"


def environment(world: str) -> dict[str, str]:
    """The variables that must be set before Keras is imported in that world."""
    return {**_EVERYWHERE, **WORLDS[world], "KERAS_ADAPTIVE_WORLD": world}


def missing(world: str) -> str | None:
    """Why the world cannot be entered on this machine, or None."""
    needed = WORLDS[world]["KERAS_BACKEND"]
    if importlib.util.find_spec(needed) is None:
        return f"{needed} is not installed"
    return _TPU["missing"]() if world.startswith("tpu") else None
