"""Callbacks for `fit`."""

import keras

from keras_adaptive.core import checks, monitor
from keras_adaptive.core.optimizer import AdaptiveOptimizer


class OptimizerMonitor(keras.callbacks.Callback):
    """Puts what the optimizer did into the logs of `fit`: the progress bar, History, CSVLogger and TensorBoard show it.

    The optimizer must be made with `monitor=True`. `AdaptiveOptimizer.metrics` says what the numbers are; each is that
    of the last update. Callbacks of your own that read them must come after this one in the list.

    Args:
        per_layer: also the gradient_norm, update_norm and weight_norm of every variable, by its path. Default False.
        prefix: of the names in the logs. Default "optimizer/".
        frequency: None, or after every how many calls of `on_train_batch_end` the logs of that batch get the numbers
            too. To read them, the program waits for the device, and on JAX `fit` has to put its whole state back into
            the variables: with 1 at every step. Default None: at the end of an epoch only, which costs next to nothing.

    Raises:
        ValueError, TypeError: for an argument of the wrong kind; and when the training begins, if the model's optimizer
            is not one of this package or has no `monitor=True`.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=keras_adaptive.Adam(monitor=True), loss="mse")
    >>> data = keras.ops.ones((8, 3)), keras.ops.ones((8, 1))
    >>> history = model.fit(*data, callbacks=[keras_adaptive.OptimizerMonitor()], verbose=0).history
    >>> history["optimizer/learning_rate"]
    [0.0010000000474974513]
    """

    def __init__(self, per_layer=False, prefix="optimizer/", frequency=None):
        super().__init__()
        self.per_layer = checks.flag("per_layer", per_layer)
        self.prefix = prefix if prefix == "" else checks.text("prefix", prefix)
        self.frequency = checks.optional(checks.count)("frequency", frequency)
        # Keras lets a step begin before the callbacks of the last one are done, if they say that it may.
        self.async_safe = self.frequency is None
        self._calls = 0

    def on_train_begin(self, logs=None):
        self._calls = 0
        optimizer = self.model.optimizer
        if not isinstance(optimizer, AdaptiveOptimizer):
            raise ValueError(
                "OptimizerMonitor needs a model with an optimizer of keras_adaptive, made with monitor=True. "
                f"Received: {type(optimizer).__module__}.{type(optimizer).__name__}"
            )
        if not optimizer.monitor:
            raise ValueError(
                "OptimizerMonitor needs a model whose optimizer is made with monitor=True. "
                f"Received: {type(optimizer).__name__}(monitor=False)"
            )

    def on_train_batch_end(self, batch, logs=None):
        if self.frequency is None:
            return
        self._calls += 1
        if self._calls % self.frequency == 0:
            self._write(logs)

    def on_epoch_end(self, epoch, logs=None):
        self._write(logs)

    def _write(self, logs):
        # On JAX it is `self.model` that puts the state of the running epoch into the variables.
        optimizer = self.model.optimizer
        logs.update({self.prefix + name: number for name, number in optimizer.metrics.items()})
        if not self.per_layer:
            return
        for path, numbers in optimizer.metrics_by_variable().items():
            logs.update({f"{self.prefix}{path}/{name}": numbers[name] for name in monitor.NORMS})
