"""Keras's optimizers that wrap others: LossScaleOptimizer and MultiOptimizer.

Under the policy mixed_float16 `compile` wraps every optimizer in a LossScaleOptimizer. Wrappers pass on only the
methods and attributes of Keras's optimizers, so our tools look inside.
"""


def unwrapped(optimizer):
    """The optimizer inside a LossScaleOptimizer, or the given optimizer itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def parts(optimizer) -> list:
    """The optimizers of a MultiOptimizer, also inside a LossScaleOptimizer; else a list of the one optimizer."""
    inner = unwrapped(optimizer)
    return list(getattr(inner, "optimizers", [inner]))
