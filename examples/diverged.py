"""Ends an example whose training diverges, with one line that says where, and what to do."""

import math

import keras
from options import end

LARGEST = 1e6  # The losses of these examples are far smaller unless the training diverges.


def check(loss, where, optimizer, option="--learning-rate"):
    """Ends the program with exit code 1 if this loss is not finite, or so large that the training diverges.

    Args:
        loss: a number, or a tensor of one number.
        where: "at step 3", for the message.
        optimizer: of Keras or of keras_adaptive.
        option: the argument of the example that decides the learning rate.
    """
    if math.isfinite(loss) and abs(loss) <= LARGEST:
        return
    print(flush=True)  # A progress bar does not end its line.
    rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    message = f"the training diverges: the loss is {float(loss):.3g} {where}, with the learning rate {rate:.3g}"
    end(1, f"{message}. Choose a smaller {option}")


class StopIfDiverged(keras.callbacks.Callback):
    """Checks the loss after every step of `fit`, and the test loss after every epoch."""

    def __init__(self, option):
        super().__init__()
        self.option, self.epoch = option, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._check(logs["loss"], f"at step {batch + 1} of epoch {self.epoch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        self._check(logs.get("val_loss", 0.0), f"in the test after epoch {epoch + 1}")

    def _check(self, loss, where):
        if keras.backend.backend() == "jax" and not abs(loss) <= LARGEST:
            self.model.jax_state_sync()  # While `fit` runs, the optimizer's variables are empty.
        check(loss, where, self.model.optimizer, self.option)
