"""Callbacks for `fit`."""

import keras

from keras_adaptive.core import checks, evaluation, wrappers
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.step import monitor


class OptimizerMonitor(keras.callbacks.Callback):
    """Puts what the optimizer did into the logs of `fit`: the progress bar, History, CSVLogger and TensorBoard show it.

    The optimizer must be made with `monitor=True`; it may be inside of Keras's LossScaleOptimizer, whose loss scale is
    shown then and whose left-out updates are not counted. `AdaptiveOptimizer.metrics` says what the numbers are; each
    is that of the last update. Callbacks of your own that read them must come after this one in the list.

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
        # On JAX it is `self.model` that puts the state of the running epoch into the variables.
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

    For an optimizer whose evaluation weights are not those that it trains: Schedule-Free, DoG, DoWG, and any with
    `use_ema=True`. During `validation_data`, `evaluate` and `predict` (which take `callbacks` too) the model holds the
    evaluation weights, and from the end of an epoch to the beginning of the next: callbacks that come after this one in
    the list, such as `ModelCheckpoint` and `EarlyStopping`, save those. `BackupAndRestore` comes before it, and saves
    the training weights; so does a `ModelCheckpoint` that saves in the middle of an epoch. After `fit` the model holds
    the evaluation weights, with this callback or without. When `fit` begins with them, the training weights come back
    where the optimizer can tell them (Schedule-Free); otherwise training goes on from the evaluation weights.

    Meanwhile the training weights are set aside, in their own memory, so the optimizer's state is never another than
    it says, and a model that is saved goes on as the one that was not. After an error or an interrupt, the next `fit`
    with this callback, or with another of its kind, goes on from the training weights.

    Raises:
        ValueError: when training, evaluation or prediction begins, if no optimizer of the model has evaluation weights.

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
        # How many reasons there are to hold the evaluation weights.
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
        """Those with evaluation weights that are built, also inside of Keras's wrappers."""
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
