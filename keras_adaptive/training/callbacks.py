"""Callbacks for `fit`."""

import keras

from keras_adaptive.core import checks, evaluation, wrappers
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.step import monitor


class OptimizerMonitor(keras.callbacks.Callback):
    """Puts what the optimizer did into the logs of `fit`: the progress bar, History, CSVLogger and TensorBoard show it.

    The optimizer must be made with `monitor=True`. It may be inside Keras's LossScaleOptimizer: then the logs also have
    its loss scale, and updates that it skips are not counted. `AdaptiveOptimizer.metrics` says what the numbers are;
    each is that of the last update. Callbacks of your own that read them must come after this one in the list.

    Args:
        per_layer: whether to log the gradient_norm, update_norm and weight_norm of every variable too, by its path.
            Default False.
        prefix: the prefix of the names in the logs. Default "optimizer/".
        frequency: the number of calls of `on_train_batch_end` after which the logs of that batch get the numbers too.
            Reading them makes the program wait for the device, and on JAX makes `fit` put its full state back into the
            variables; with 1 that happens at every step. Default None: only at the end of an epoch, which costs next to
            nothing.

    Raises:
        ValueError, TypeError: for an argument of the wrong kind. When training begins: if the model's optimizer is not
            one of this package, or was made without `monitor=True`.

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
        # Keras starts a step before the callbacks of the last one have ended, if all callbacks allow it.
        self.async_safe = self.frequency is None
        self._calls = 0

    def on_train_begin(self, logs=None):
        self._calls = 0
        optimizer = wrappers.unwrapped(self.model.optimizer)
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
        # On JAX, reading `self.model` puts the state of the running epoch into the variables.
        outer = self.model.optimizer
        optimizer = wrappers.unwrapped(outer)
        numbers = optimizer.metrics
        if outer is not optimizer:
            numbers["loss_scale"] = float(keras.ops.convert_to_numpy(outer.dynamic_scale))
        logs.update({self.prefix + name: number for name, number in numbers.items()})
        if not self.per_layer:
            return
        for path, numbers in optimizer.metrics_by_variable().items():
            logs.update({f"{self.prefix}{path}/{name}": numbers[name] for name in monitor.NORMS})


class EvaluationWeights(keras.callbacks.Callback):
    """Evaluates, predicts and saves with the evaluation weights of the optimizer, and trains on with the others.

    It is for optimizers whose evaluation weights differ from the weights that they train: Schedule-Free, DoG, DoWG, and
    any optimizer with `use_ema=True`. The model holds the evaluation weights

    - during `validation_data`, `evaluate` and `predict` (which also take `callbacks`);
    - from the end of an epoch to the beginning of the next. So callbacks that come after this one in the list, such as
      `ModelCheckpoint` and `EarlyStopping`, save the evaluation weights. Put `BackupAndRestore` before this one: it
      saves the training weights. So does a `ModelCheckpoint` that saves in the middle of an epoch;
    - after `fit`, with or without this callback.

    If `fit` begins with the evaluation weights, the training weights come back where the optimizer can compute them
    (Schedule-Free). Otherwise training goes on from the evaluation weights.

    While the model holds the evaluation weights, the training weights are stored separately, in additional memory. So
    the optimizer's state is always consistent, and a model that is saved continues like one that is not. After an error
    or an interrupt, the next `fit` with such a callback goes on from the training weights.

    Raises:
        ValueError: if no optimizer of the model has evaluation weights, when training, evaluation or prediction begins.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=keras_adaptive.ScheduleFreeSGD(0.1), loss="mse")
    >>> data = keras.ops.ones((8, 3)), keras.ops.ones((8, 1))
    >>> callback = keras_adaptive.EvaluationWeights()
    >>> history = model.fit(*data, validation_data=data, callbacks=[callback], verbose=0).history
    >>> bool(abs(history["val_loss"][-1] - model.evaluate(*data, verbose=0)) < 1e-6)
    True
    """

    def __init__(self):
        super().__init__()
        # The number of reasons to hold the evaluation weights.
        self._reasons = 0

    def on_train_begin(self, logs=None):
        self._reasons = 0
        for optimizer in self._optimizers():
            evaluation.restore(optimizer)

    def on_train_end(self, logs=None):
        self._reasons = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._leave(self._reasons)

    def on_epoch_end(self, epoch, logs=None):
        self._enter()

    def on_test_begin(self, logs=None):
        self._enter()

    def on_test_end(self, logs=None):
        self._leave(1)

    def on_predict_begin(self, logs=None):
        self._enter()

    def on_predict_end(self, logs=None):
        self._leave(1)

    def _enter(self):
        if not self._reasons:
            for optimizer in self._optimizers():
                evaluation.exchange(optimizer)
        self._reasons += 1

    def _leave(self, reasons):
        self._reasons -= reasons
        if self._reasons == 0:
            for optimizer in self._optimizers():
                evaluation.put_back(optimizer)

    def _optimizers(self):
        """The built optimizers with evaluation weights, also inside Keras's wrappers."""
        known = [
            optimizer
            for optimizer in wrappers.parts(self.model.optimizer)
            if isinstance(optimizer, AdaptiveOptimizer) and optimizer.has_evaluation_weights
        ]
        if not known:
            raise ValueError(
                "EvaluationWeights needs a model with an optimizer of keras_adaptive that has evaluation weights: "
                "Schedule-Free, DoG, DoWG, or use_ema=True. "
                f"Received: {type(self.model.optimizer).__module__}.{type(self.model.optimizer).__name__}"
            )
        return [optimizer for optimizer in known if optimizer.built]
