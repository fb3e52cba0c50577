"""Which variables each program of an update has, on a CPU under TensorFlow.

XLA starts with all variables of a program at once, and holds the temporaries between two passes of a rule for each of
them. So there are several programs, which run one after the other. And XLA compiles the update of each variable, even
if another variable of the program has the same. So programs have like variables where possible: then one is compiled
for all of them.
"""

import math
from typing import Any, NamedTuple

# After this many elements of weights, the next variables go into another program.
IN_ONE_PROGRAM = 2**23
# As many programs with like variables as would have so many variables each: smaller ones compile sooner, but each call
# of a program takes time.
VARIABLES = 32


class Part(NamedTuple):
    """The variables of one program.

    Attributes:
        places: of the variables, in their order.
        likes: for each variable a key. Those with the same key have the same update function and the same shape.
        scalars: the names of the scalars that the program gets.
    """

    places: tuple[int, ...]
    likes: tuple[Any, ...]
    scalars: tuple[str, ...]


def found(transaction, variables, gradients, scalars) -> list[Part]:
    """The programs, in the order in which they run.

    Of variables that are not alike, the first come last: tables are large, and by then the other gradients are freed.
    """
    missing = tuple(gradient is None or not of_one for gradient, of_one in zip(gradients, variables, strict=True))
    key = "parts", missing, tuple(scalars)
    if key not in transaction.cache:
        transaction.cache[key] = _found(transaction, variables, missing, scalars)
    return transaction.cache[key]


def likes(transaction, scalars) -> list[Any]:
    """The keys of `Part` for all variables."""
    keys: list[Any] = list(range(len(transaction.states)))
    for number, bucket in enumerate(transaction.buckets):
        # Random bits depend on the variable.
        if bucket.kind is not None and not bucket.kind.noisy:
            for place in bucket.places:
                state = transaction.states[place]
                if state.contributed_name not in scalars:
                    keys[place] = number, state.shape
    return keys


def _found(transaction, variables, missing, scalars):
    sizes = [max((variable.shape.num_elements() for variable in of_one.values()), default=0) for of_one in variables]
    keys = likes(transaction, scalars)
    groups: dict[Any, list[int]] = {}
    for place in reversed(range(len(variables))):
        groups.setdefault(place if missing[place] else keys[place], []).append(place)
    alike = _alike([places for places in groups.values() if len(places) > 1], sizes)
    rest = set(range(len(variables))).difference(*alike)
    of_one = {state.contributed_name: place for place, state in enumerate(transaction.states)}
    return [
        Part(
            tuple(places),
            tuple(keys[place] for place in places),
            tuple(name for name in scalars if of_one.get(name, places[0]) in places),
        )
        for places in [*alike, *_cut(sorted(rest, reverse=True), sizes)]
    ]


def _alike(groups, sizes) -> list[list[int]]:
    """Programs that have the same number of variables of each group, in the same order."""
    elements = sum(len(places) * sizes[places[0]] for places in groups)
    variables = sum(map(len, groups))
    most = max(math.ceil(elements / IN_ONE_PROGRAM), variables // VARIABLES)
    # That large a program may also be without like variables.
    limit = IN_ONE_PROGRAM + max((sizes[places[0]] for places in groups), default=0)

    def compiled(count):
        return sum(len(places) // count + len(places) % count for places in groups)

    def fits(count):
        return sum(len(places) // count * sizes[places[0]] for places in groups) <= limit

    count = min(filter(fits, range(2, most + 1)), key=compiled, default=0)
    each = [(places, len(places) // count) for places in groups] if count else []
    parts = [[place for places, n in each for place in places[i * n : (i + 1) * n]] for i in range(count)]
    return [part for part in parts if part]


def _cut(places, sizes) -> list[list[int]]:
    """Programs of the variables at these places, in their order."""
    parts: list[list[int]] = []
    elements = IN_ONE_PROGRAM
    for place in places:
        if elements >= IN_ONE_PROGRAM:
            parts.append([])
            elements = 0
        parts[-1].append(place)
        elements += sizes[place]
    return parts
