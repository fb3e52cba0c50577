"""The coordinator of a ParameterServerStrategy, with its servers in the same process: writes the table's weights.

    python parameter_server.py DIRECTORY WORKERS PORT...

One port for each worker and one for the parameter server. A step is scheduled when the last one is done.
"""

import os
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS), str(TESTS.parent)]
DIRECTORY, WORKERS, PORTS = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]


def coordinator():
    """The coordinator of servers that are started here."""
    import tensorflow as tf

    addresses = [f"127.0.0.1:{port}" for port in PORTS]
    cluster = tf.train.ClusterSpec({"worker": addresses[:WORKERS], "ps": addresses[WORKERS:]})
    # Fewer threads than servers need to wait for each other would be a deadlock.
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=4)
    for job in cluster.jobs:
        for index in range(cluster.num_tasks(job)):
            tf.distribute.Server(cluster, job_name=job, task_index=index, config=config, protocol="grpc", start=True)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, rpc_layer="grpc")
    return tf.distribute.coordinator.ClusterCoordinator(tf.distribute.ParameterServerStrategy(resolver))


def main():
    import replicas

    boss = coordinator()

    def call(step, shares):
        boss.schedule(step, args=shares)
        boss.join()

    replicas.use(boss.strategy, call)
    import numpy as np
    from cases import CASES
    from support import OPTIONS, values

    ends = {}
    for case in CASES:
        for name, options in OPTIONS.items():
            loop = replicas.noisy_loop(case, options, replicated=True)
            loop.optimizer.finalize_variable_values(loop.weights)
            for index, value in enumerate(values(loop.weights)):
                ends[f"{case.name}/loop/{name}/weights/{index}"] = value
    np.savez(DIRECTORY / "coordinator.npz", **ends)


if __name__ == "__main__":
    import worlds

    os.environ.update(worlds.environment("tensorflow"))
    main()
    # Servers have no way to be stopped, and wait for each other when the process ends.
    os._exit(0)
