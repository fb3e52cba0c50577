"""The environment of the TPU compiler's process. It imports nothing of Keras, since it must be set before that."""

import importlib.util
import platform
import sys

# Variables of the process's environment. Without the last three the compiler searches the network for a TPU, locks out
# all other processes that load it, and writes logs to the system's temporary folder.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
}


def missing() -> str | None:
    """Why the TPU compiler cannot run on this machine, or None."""
    if platform.system() != "Linux":
        return f"the TPU compiler exists only for Linux, and this is {sys.platform}"
    absent = [name for name in ("jax", "libtpu") if importlib.util.find_spec(name) is None]
    return f"{absent[0]} is not installed" if absent else None
