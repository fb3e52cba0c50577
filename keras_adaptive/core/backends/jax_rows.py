"""The update of a variable whose slots have scales, as one kernel over blocks of rows.

The scale of a row must be known before its first code is written, so XLA makes two passes over the memory. The kernel
reads a row once, computes on the chip and writes it once. It runs the update of any elementwise rule.
"""

import dataclasses
import functools

import jax
import keras
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

from keras_adaptive.core.backends import jax_blocks
from keras_adaptive.core.math.rows import Rows

# The most elements of a row: the memory of the chip must hold a few rows of everything.
LONGEST_ROW = 2**14


class Kernels:
    """The kernels of a step.

    Args:
        transaction, scalars: see `Transaction`.
        platform: the kind of device, as JAX names it.
    """

    def __init__(self, transaction, scalars, platform: str):
        self.transaction, self.scalars = transaction, scalars
        self.platform = platform if jax_blocks.exist(platform) and _asked(transaction, platform) else None
        self.kinds = {
            transaction.states[place]: bucket.kind for bucket in transaction.buckets for place in bucket.places
        }

    def one(self, state, clock, shared, gradient, values):
        """As `Transaction.one`, by a kernel if the variable qualifies."""
        transaction, kind = self.transaction, self.kinds[state]
        if self.platform is None or gradient is None or not self.qualifies(state, kind, values):
            return transaction.one(state, clock, shared, gradient, values)
        key = "rows", self.platform, kind, state.shape
        if key not in transaction.cache:
            # Traced once for all variables of this kind and shape.
            transaction.cache[key] = jax.jit(functools.partial(_updated, transaction, state, self.platform))
        numbers = {name: number for name, number in self.scalars.items() if np.ndim(number) == 0}
        return values | transaction.cache[key]((numbers, shared), np.int32(state.index), gradient, values)

    def qualifies(self, state, kind, values) -> bool:
        """Whether rows can be updated one after the other, and a block of them fits on the chip."""
        if kind is None or kind.shape is not None or not kind.scaled or state.contributed_name in self.scalars:
            return False
        *rows, length = state.shape
        # Nothing divides a kernel among devices.
        if 0 in rows or length > LONGEST_ROW or keras.distribution.distribution() is not None:
            return False
        if not rows or any(tuple(value.shape) not in (state.shape, (*rows, 1)) for value in values.values()):
            return False
        if self.platform != "tpu":
            return True
        # A TPU has no float64. Of rows that are not full tiles it stores the columns one after the other, and it copies
        # a variable to join its first axes unless they end with a tile: either costs more than another pass.
        tiles, lanes = jax_blocks.TILE
        return state.compute_dtype == "float32" and length % lanes == 0 and (len(rows) == 1 or rows[-1] % tiles == 0)


def _asked(transaction, platform) -> bool:
    """A TPU's compiler has compiled the kernels; on a GPU they have not run yet, so there they are an option."""
    return transaction.jit_update is True or (transaction.jit_update == "auto" and platform == "tpu")


def _updated(transaction, state, platform, common, index, gradient, values):
    """The new values of what changes, by role."""

    def changed(common, index, gradient, before):
        (scalars, shared), one = common, dataclasses.replace(state, index=index)
        after = transaction.one(one, transaction.clock(scalars), shared, gradient, before)
        return {role: value for role, value in after.items() if value is not before[role]}

    tensors = [x.reshape(-1, x.shape[-1]) for x in (gradient, *values.values())]
    blocks = jax_blocks.Blocks(platform, *tensors[0].shape)

    def of_block(common, index, ids, gradient, *before):
        gradient = Rows(ids, gradient, jax.numpy.ones(ids.shape, gradient.dtype), blocks.length)
        return changed(common, index, gradient, dict(zip(values, before, strict=True)))

    given = (common, index, blocks.ids(0), *(blocks.block(x) for x in tensors))
    traced, shapes = jax.make_jaxpr(of_block, return_shape=True)(*given)
    of_numbers, of_rows = _split(traced, len(jax.tree.leaves(common)))
    numbers = of_numbers(*jax.tree.leaves(common))
    if any(np.ndim(number) for number in numbers):
        # A constant of the rule has axes.
        return changed(common, index, gradient, values)
    # JAX sorts what a dict holds.
    roles = sorted(shapes)
    new = blocks.mapped(of_rows, [*numbers, index], tensors, [1 + [*values].index(role) for role in roles])
    return {role: x.reshape(values[role].shape) for role, x in zip(roles, new, strict=True)}


def _split(traced, count):
    """Splits off the numbers that all variables share, such as bias corrections: they are computed outside.

    Args:
        traced: the function.
        count: how many of its first arguments they depend on.

    Returns:
        the function from these arguments to the numbers, and that from the numbers and the other arguments.
    """
    jaxpr = traced.jaxpr
    first, others = jaxpr.invars[:count], jaxpr.invars[count:]
    known, before, after = {*first, *jaxpr.constvars}, [], []
    for equation in jaxpr.eqns:
        if known.issuperset(_variables(equation.invars)) and all(x.aval.size == 1 for x in equation.outvars):
            known.update(equation.outvars)
            before.append(equation)
        else:
            after.append(equation)
    used = _variables(jaxpr.outvars, *(equation.invars for equation in after))
    for equation in reversed(before):
        if any(x in used and x.aval.shape for x in equation.outvars):
            # Only scalars are passed; what has axes is made of them again.
            after.insert(0, equation)
            known.difference_update(equation.outvars)
            used |= _variables(equation.invars)
    numbers = [x for x in used if x in known]
    of_numbers = jaxpr.replace(invars=first, outvars=numbers, eqns=before)
    of_rows = jaxpr.replace(constvars=[], invars=[*numbers, *others], eqns=after)
    return jaxpr_as_fun(ClosedJaxpr(of_numbers, traced.consts)), jaxpr_as_fun(ClosedJaxpr(of_rows, []))


def _variables(*of_each):
    """What is no literal, as the keys of a dict, which are in order."""
    return {x: None for some in of_each for x in some if not isinstance(x, Literal)}
