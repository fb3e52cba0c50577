"""Matches the variables of a saved state with those of a model, by path and shape."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Variable = tuple[str, tuple[int, ...]]
Pairs = list[tuple[int, int]]


@dataclass(frozen=True)
class Matching:
    """The pairs that were found.

    Attributes:
        rule: "path", "order" or "name": the first rule that applied (see `match`).
        pairs: (index of the saved variable, index of the current one).
        only_saved, only_current: the indices without a partner.
    """

    rule: str
    pairs: tuple[tuple[int, int], ...]
    only_saved: tuple[int, ...]
    only_current: tuple[int, ...]


def match(
    saved: Sequence[Variable], current: Sequence[Variable], alike: Callable[[int, int], bool] = lambda i, j: True
) -> Matching:
    """Pairs saved variables with current ones; two variables of different shapes are never a pair.

    The first of three rules that applies is used:

    path: both sides have the same paths. Variables that share a path (plain tf.Variables) are paired in order.
    order: both sides have the same number of variables, with the same shapes in the same order, and the names allow
        it. Either the paths of each pair differ only in their root and in automatic numbers, or no path is on both
        sides. This matches a second model in one process, and a Sequential whose prefix `load_model` drops.
    name: for variables that were added or removed. First, a path on both sides is a pair, unless the numbers in it
        were shifted. Then come paths that are equal without numbers, then those also equal without the root. If
        several are equal and have one shape, they are paired in order if both sides have as many, else not at all.

    Args:
        saved, current: (path, shape) of each variable, in the order of the model.
        alike: further condition for a pair, by indices; the rules path and order need it for all pairs.

    Returns:
        A `Matching`. It lists all variables without a partner.
    """

    def whole(pairs: Pairs) -> bool:
        return all(saved[i][1] == current[j][1] and alike(i, j) for i, j in pairs)

    if len(saved) == len(current):
        if Counter(path for path, _ in saved) == Counter(path for path, _ in current):
            pairs = _in_order(_grouped(saved, _exact), _grouped(current, _exact))
            if whole(pairs):
                return _matching("path", pairs, saved, current)
        pairs = [(i, i) for i in range(len(saved))]
        if whole(pairs) and _names_allow_order(saved, current):
            return _matching("order", pairs, saved, current)
    return _matching("name", _by_name(saved, current), saved, current)


def plain(path: str) -> str:
    """The path without the numbers that Keras adds to automatic names, and without TensorFlow's ":0"."""
    return "/".join(re.sub(r"_\d+$", "", part) for part in re.sub(r":\d+$", "", path).split("/"))


def rootless(paths: Sequence[str]) -> Callable[[str], str | None]:
    """A function that removes the root that all these paths share, and the numbers; None if there is no shared root."""
    parts = [plain(path).split("/") for path in paths]
    has_root = len({first for first, *_ in parts}) == 1 and max(map(len, parts), default=0) > 2

    def without_root(path: str) -> str | None:
        _, slash, rest = plain(path).partition("/")
        return rest if has_root and slash else None

    return without_root


def _exact(variable: Variable) -> str:
    return variable[0]


def _grouped(variables: Sequence[Variable], key: Callable[[Variable], Any], among: Any = None) -> dict[Any, list[int]]:
    """The indices of the variables by key, in order; a variable with the key None is skipped."""
    groups = defaultdict(list)
    for index in range(len(variables)) if among is None else among:
        if (found := key(variables[index])) is not None:
            groups[found].append(index)
    return groups


def _in_order(saved: dict[Any, list[int]], current: dict[Any, list[int]]) -> Pairs:
    """Pairs in order, for each group of the same size on both sides."""
    equal = [key for key in current if len(saved.get(key, ())) == len(current[key])]
    return [pair for key in equal for pair in zip(saved[key], current[key], strict=True)]


def _names_allow_order(saved, current):
    old, new = [path for path, _ in saved], [path for path, _ in current]
    if not set(old) & set(new):
        return True
    shorter_old, shorter_new = rootless(old), rootless(new)
    return all(
        {plain(a), shorter_old(a)} & ({plain(b), shorter_new(b)} - {None}) for a, b in zip(old, new, strict=True)
    )


def _by_name(saved, current):
    shorter_old, shorter_new = rootless([path for path, _ in saved]), rootless([path for path, _ in current])
    trusted = _trusted_paths(saved, current)
    rules: list[tuple[Callable, Callable]] = [
        (lambda path: path if path in trusted else None,) * 2,
        (plain, plain),
        (shorter_old, shorter_new),
        (shorter_old, plain),
        (plain, shorter_new),
    ]
    pairs: Pairs = []
    for of_saved, of_current in rules:
        done_saved, done_current = {i for i, _ in pairs}, {j for _, j in pairs}
        old = _grouped(saved, _with_shape(of_saved), [i for i in range(len(saved)) if i not in done_saved])
        new = _grouped(current, _with_shape(of_current), [j for j in range(len(current)) if j not in done_current])
        pairs += _in_order(old, new)
    return pairs


def _with_shape(name):
    def key(variable):
        found = name(variable[0])
        return None if found is None else (found, variable[1])

    return key


def _trusted_paths(saved, current):
    """Paths on both sides that mean the same variable.

    The automatic numbers of a second model are shifted: dense and dense_1 are now dense_1 and dense_2. Names that
    differ only in numbers are a family. If each side has a path of the family that the other side lacks, the common
    paths mean nothing.
    """
    old, new = ({path for path, _ in side} for side in (saved, current))
    families = {plain(path) for path in old & new}
    shifted = {
        family
        for family in families
        if any(plain(path) == family for path in old - new) and any(plain(path) == family for path in new - old)
    }
    return {path for path in old & new if plain(path) not in shifted}


def _matching(rule, pairs, saved, current):
    pairs = sorted(pairs, key=lambda pair: pair[1])
    found_saved, found_current = {i for i, _ in pairs}, {j for _, j in pairs}
    return Matching(
        rule,
        tuple(pairs),
        tuple(i for i in range(len(saved)) if i not in found_saved),
        tuple(j for j in range(len(current)) if j not in found_current),
    )


def distinct(names: Sequence[str]) -> list[str]:
    """The names; a number is added to each name that occurs more than once."""
    return [name if names.count(name) == 1 else f"{name}#{place}" for place, name in enumerate(names)]
