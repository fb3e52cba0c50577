"""Where to train: a backend of Keras, and the devices that share the work.

Call `choose_backend` before Keras is imported and `start` after it:

    strategies.choose_backend(arguments.strategy, arguments.replicas)
    import keras
    devices = strategies.start(arguments)
    with devices.scope:
        ...  # build and compile the model
"""

import contextlib
import importlib.metadata
import importlib.util
import json
import os
from pathlib import Path
from typing import NamedTuple

from options import check_batch, refuse

BACKENDS = ("tensorflow", "jax", "torch")


class Devices(NamedTuple):
    """The devices that `start` found.

    The strategy's name, the number of replicas, the scope in which to build the model, and whether this is the one
    process that reports.
    """

    strategy: str
    replicas: int
    scope: contextlib.AbstractContextManager
    is_chief: bool = True


def choose_backend(strategy="auto", replicas=None):
    """Sets the environment that Keras and its backend read when they are imported.

    The backend is KERAS_BACKEND, if that is set. On a TPU it is JAX, unless the installed TensorFlow can use the TPU.
    Otherwise it is the first of TensorFlow, JAX and torch that is installed.
    """
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    first = ["jax"] if tpu_is_attached() and not _is_tpu_build() else []
    found = [name for name in (*first, *BACKENDS) if name in installed]
    backend = os.environ.get("KERAS_BACKEND") or next(iter(found), "tensorflow")
    if backend not in installed:
        known = f"must be one of {list(BACKENDS)}"
        if backend in BACKENDS:
            known = f"is not installed. Run: pip install {backend}, or choose one of {installed}"
        refuse(f"the backend {known}. Received: KERAS_BACKEND={backend}")
    if strategy == "multiworker" and backend != "tensorflow":
        refuse(f"--strategy multiworker needs the backend tensorflow. Received: KERAS_BACKEND={backend}")
    if strategy == "multiworker" and not _is_worker(os.environ.get("TF_CONFIG", "")):
        refuse(
            "--strategy multiworker needs the addresses of all workers and the number of this one in the environment: "
            """TF_CONFIG='{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'. """
            f"Received: TF_CONFIG={os.environ.get('TF_CONFIG')}"
        )
    if strategy == "tpu" and not tpu_is_attached():
        refuse("--strategy tpu needs a TPU, and this machine has none (neither /dev/accel0 nor /dev/vfio/0)")
    if strategy == "cpu" and (replicas or 1) > 1:
        refuse(f"--strategy cpu is one device; use --strategy mirrored. Received: --replicas {replicas}")
    if backend == "torch" and (strategy in ("mirrored", "tpu") or (replicas or 1) > 1):
        refuse("several devices or a TPU need the backend tensorflow or jax. Received: KERAS_BACKEND=torch")
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else TensorFlow complains about every GPU it does not find
    if strategy == "cpu":
        os.environ.update(JAX_PLATFORMS="cpu", KERAS_TORCH_DEVICE="cpu")
    if replicas and backend == "jax":
        logical_cpus = f"--xla_force_host_platform_device_count={replicas}"
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {logical_cpus}".strip()
        # The logical CPUs share one pool of threads; if all of them wait for each other in a sum, the program hangs.
        os.environ.setdefault("NPROC", str((os.cpu_count() or 1) + 4 * replicas))


def _is_worker(config):
    """Whether this is a TF_CONFIG with only workers, and this process is one of them."""
    try:
        config = json.loads(config)
        task, workers = config["task"], config["cluster"]["worker"]
        return list(config["cluster"]) == [task["type"]] == ["worker"] and 0 <= task["index"] < len(workers)
    except (ValueError, KeyError, TypeError):
        return False


def start(arguments):
    """Sets up the devices, the seed and the precision. Call it once, before any tensor is made."""
    import keras

    devices = take(arguments.strategy, arguments.replicas)
    keras.utils.set_random_seed(arguments.seed)
    if "precision" in arguments:
        keras.config.set_dtype_policy(arguments.precision)
    if "batch_size" in arguments:
        check_batch(arguments.batch_size, devices.replicas)
    return devices


def take(strategy="auto", replicas=None):
    """Sets up only the devices, which is all that a notebook needs."""
    import keras

    return {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()](strategy, replicas)


def _tensorflow(strategy, replicas):
    """tf.distribute: MirroredStrategy for GPUs or logical CPUs, TPUStrategy for a TPU, MultiWorkerStrategy."""
    import tensorflow as tf

    if strategy == "tpu" or (strategy == "auto" and _is_tpu_build() and tpu_is_attached()):
        if not _is_tpu_build():
            refuse("this TensorFlow cannot use a TPU: install tensorflow-tpu, or set KERAS_BACKEND=jax")
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return _replicated(tf.distribute.TPUStrategy(resolver), replicas)
    if strategy == "multiworker":
        from multiworker import MultiWorkerStrategy

        workers = MultiWorkerStrategy()
        return _replicated(workers, replicas)._replace(is_chief=workers.cluster_resolver.task_id == 0)
    if strategy == "cpu":
        tf.config.set_visible_devices([], "GPU")
    kind = "GPU" if tf.config.get_visible_devices("GPU") else "CPU"
    if kind == "CPU" and replicas:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    found = [device.name for device in tf.config.list_logical_devices(kind)]
    used = _first(found, replicas)
    if strategy == "mirrored" or len(used) > 1:
        return _replicated(tf.distribute.MirroredStrategy(used), replicas)
    return Devices(kind.lower(), 1, contextlib.nullcontext())


def _replicated(strategy, replicas):
    found = strategy.num_replicas_in_sync
    if replicas not in (None, found):
        refuse(f"this machine's devices make {found} replicas. Received: --replicas {replicas}")
    return Devices(type(strategy).__name__, found, _Scope(strategy))


class _Scope(contextlib.AbstractContextManager):
    """The strategy's scope, but one that can be entered again after it was left; TensorFlow's cannot."""

    def __init__(self, strategy):
        self.strategy, self.entered = strategy, []

    def __enter__(self):
        self.entered.append(self.strategy.scope())
        return self.entered[-1].__enter__()

    def __exit__(self, *error):
        return self.entered.pop().__exit__(*error)


def _jax(strategy, replicas):
    """keras.distribution: DataParallel for TPU cores, GPUs or logical CPUs."""
    import jax
    import keras

    platform = jax.default_backend()
    if strategy == "tpu" and platform != "tpu":
        refuse(f'this JAX does not see the TPU: pip install "jax[tpu]". Received: the platform {platform}')
    used = _first(keras.distribution.list_devices(), replicas)
    if strategy == "mirrored" or len(used) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=used))
        return Devices("DataParallel", len(used), contextlib.nullcontext())
    return Devices(platform, 1, contextlib.nullcontext())


def _torch(strategy, replicas):
    """One device: Keras on torch takes the GPU if there is one."""
    import torch

    gpu = strategy != "cpu" and torch.cuda.is_available()
    return Devices("gpu" if gpu else "cpu", 1, contextlib.nullcontext())


def _first(found, replicas):
    if replicas and replicas > len(found):
        refuse(f"this machine has {len(found)} devices of the kind {found[0]}. Received: --replicas {replicas}")
    return found[:replicas]


def tpu_is_attached():
    return Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()


def _is_tpu_build():
    """Whether the installed TensorFlow can use a TPU."""
    return any(each.metadata["Name"] == "tensorflow-tpu" for each in importlib.metadata.distributions())
