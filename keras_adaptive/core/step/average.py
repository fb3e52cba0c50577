"""The moving average of the weights."""

from keras import ops

from keras_adaptive.core.step.stage import Place, Stage, Stored


class Average(Stage):
    """average <- momentum average + (1 - momentum) theta; it begins as a copy of the weights after the first update."""

    place, option, needs_all_rows = Place.AVERAGE, "use_ema", True
    roles = ("average", "exact_average")

    def __init__(self, momentum, overwrite_frequency):
        self.momentum, self.overwrite_frequency = momentum, overwrite_frequency

    @classmethod
    def of(cls, optimizer):
        return cls(optimizer.ema_momentum, optimizer.ema_overwrite_frequency) if optimizer.use_ema else None

    def stores(self, variable):
        stored = {"average": Stored(dtype=variable.dtype)}
        if variable.dtype != variable.compute_dtype:
            # Keras swaps the average with the weights, so it has their dtype. In bfloat16 alone it would never move.
            stored["exact_average"] = Stored()
        return stored

    def after(self, step, new):
        role = "exact_average" if "exact_average" in new else "average"
        theta = ops.cast(new["theta"], step.state.compute_dtype)
        average = self.momentum * step.values[role] + (1 - self.momentum) * theta
        average = ops.where(ops.equal(step.clock.t, 1), theta, average)
        stored = step.rounded("average", average)
        changed = {role: average} | {"average": stored}
        if self.overwrite_frequency is not None:
            due = ops.equal(step.t % self.overwrite_frequency, 0)
            changed["theta"] = ops.where(due, stored, new["theta"])
        return changed
