"""One call of a rule for several variables of one kind, whose operands are stacked along a first axis.

It pays where a rule multiplies matrices and a GPU multiplies many at once, or several devices divide them. On a CPU it
was slower, and for a TPU its compiler moves more bytes. Only the rule sees the stacked tensors; the stages before and
after it run variable by variable.
"""

import math

from keras import ops

# The most elements of a stack. Its temporaries have that size too, several at a time.
MOST = 2**26


def found(states, places) -> tuple[tuple[int, ...], ...]:
    """The places of the variables of each stack, from those of one kind: each at least two.

    Args:
        states: the `VariableState` of every variable.
        places: of the variables of one kind among them.
    """
    size = math.prod(states[places[0]].shape)
    # The h of a rule is that of the first variable, whose t and bias corrections must be those of the others too.
    alike = [place for place in places if "added_at" not in states[place].stored]
    most = max(1, MOST // max(size, 1))
    parts = (tuple(alike[begin : begin + most]) for begin in range(0, len(alike), most))
    return tuple(part for part in parts if size and len(part) > 1)


def ruled(rule, h, operands):
    """The rule's delta and new slots for each variable.

    Args:
        rule: the optimizer's.
        h: that of any of the variables.
        operands: for each variable what the rule gets: the weights, the gradient, the slots; a number for a slot that
            none of the variables has.
    """
    stacked = [ops.stack(alike) if _has_axes(alike[0]) else alike[0] for alike in zip(*operands, strict=True)]
    delta, slots = rule(h, *stacked)
    return [
        (delta[place], [slot[place] if _has_axes(slot) else slot for slot in slots]) for place in range(len(operands))
    ]


def _has_axes(x) -> bool:
    return bool(len(getattr(x, "shape", ())))
