"""skip_nonfinite: skips updates, or single elements, that are not finite."""

from keras import ops

from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.math import numerics
from keras_adaptive.core.math.rows import Lookups
from keras_adaptive.core.state.limits import COUNT, Limits
from keras_adaptive.core.step.stage import Place, Stage, Stored

# The role of the number of skipped elements, over all updates.
SKIPPED = "skipped_elements"


class SkipNonfinite(Stage):
    """If anything of an element would be infinite or NaN, its weight and its slots stay as they were.

    The squares or steps of finite gradients may overflow the dtype. The elements of slots of another shape, such as
    sums over rows, are checked separately.
    """

    place, option, roles = Place.GUARD, "skip_nonfinite", (SKIPPED,)
    may_lack = True
    scalars = {"skipped_updates": Stored(shape=(), dtype="int32", limits=COUNT)}

    @classmethod
    def of(cls, optimizer):
        return cls() if optimizer.skip_nonfinite or optimizer.loss_scale_factor == "dynamic" else None

    def stores(self, variable):
        return {SKIPPED: Stored(shape=(), limits=Limits(0.0))}

    def on_numbers(self, old, new):
        # The steps of all variables depend on these numbers, so all variables stay as they were.
        fine = numerics.all_finite(list(new.values()))
        return {name: ops.where(fine, number, old[name]) for name, number in new.items()}, {"fine": fine}

    def on_new(self, step, theta, slots, new_theta, new_slots):
        shape, fine = tuple(theta.shape), step.shared.get("fine", True)
        elements = ops.logical_and(fine, ops.isfinite(ops.cast(new_theta, step.state.dtype)))
        for new in new_slots.values():
            if tuple(new.shape) == shape:
                elements = ops.logical_and(elements, ops.isfinite(new))

        def stays(old, new):
            own = elements if tuple(new.shape) == shape else ops.logical_and(fine, ops.isfinite(new))
            return ops.where(own, new, old)

        skipped = step.values[SKIPPED] + ops.sum(step.measured(ops.cast(ops.logical_not(elements), new_theta.dtype)))
        new_slots = {name: stays(slots[name], new) for name, new in new_slots.items()}
        return stays(theta, new_theta), new_slots, {SKIPPED: skipped}


def all_finite(plan, gradients):
    """One boolean: no element of any gradient is infinite or NaN."""
    tables = [gradient for gradient in gradients if isinstance(gradient, Lookups)]
    dense = [g for g in gradients if g is not None and not isinstance(g, Lookups)]

    def of_tables(tables):
        return numerics.all_finite([table.rows().values for table in tables])

    # They are apart, because that of the tables is compiled again for every number of lookups.
    checks = {"finite": (numerics.all_finite, dense), "finite tables": (of_tables, tables)}
    found = [
        (check if plan.update.jit_update is False else backends.jitted(plan.cache, key, check))(some)
        for key, (check, some) in checks.items()
        if some
    ]
    return found[0] if len(found) == 1 else ops.logical_and(*found)
