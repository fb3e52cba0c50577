"""Keras's optimizers that hold others: LossScaleOptimizer, which `compile` puts around any under the policy
mixed_float16, and MultiOptimizer.

They pass on what Keras knows of an optimizer and nothing of what ours have besides, so our tools look inside.
"""


def unwrapped(optimizer):
    """The optimizer inside of a LossScaleOptimizer, or the one that is given."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def parts(optimizer) -> list:
    """The optimizers that this one consists of, also inside of a LossScaleOptimizer; itself, if it is one alone."""
    inner = unwrapped(optimizer)
    return list(getattr(inner, "optimizers", [inner]))
