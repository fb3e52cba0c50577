"""What the TPU compiler needs of its process; imports nothing of Keras, before which this must be known."""

import importlib.util
import platform
import sys

# What a process is started with. Without the last three the compiler looks for a TPU on the network, locks out every
# other process that loads it, and writes logs beside the system's temporary files.
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
        return f"the TPU compiler exists for Linux only, and this is {sys.platform}"
    absent = [name for name in ("jax", "libtpu") if importlib.util.find_spec(name) is None]
    return f"{absent[0]} is not installed" if absent else None
