"""Saved variables are matched with the right variables of the current model."""

import itertools

import pytest

from keras_adaptive.core.state.matching import match

pytestmark = pytest.mark.quick


def side(*variables):
    """(path, shape) of kernels given as "path shape", one digit per axis."""
    return [(path, tuple(map(int, shape))) for path, _, shape in (v.partition(" ") for v in variables)]


def paired(saved, current, **options):
    """The rule, and the pairs as paths; every variable must be accounted for, and no shape may change."""
    saved, current = side(*saved), side(*current)
    found = match(saved, current, **options)
    assert sorted([i for i, _ in found.pairs] + list(found.only_saved)) == list(range(len(saved)))
    assert sorted([j for _, j in found.pairs] + list(found.only_current)) == list(range(len(current)))
    assert all(saved[i][1] == current[j][1] for i, j in found.pairs)
    return found.rule, {current[j][0]: saved[i][0] for i, j in found.pairs}


# name: what was saved, what there is now, the rule, and what each variable now must get.
EXAMPLES = {
    "the same model": (
        ["a/kernel 34", "a/bias 4", "b/kernel 41"],
        ["a/kernel 34", "a/bias 4", "b/kernel 41"],
        "path",
        {"a/kernel": "a/kernel", "a/bias": "a/bias", "b/kernel": "b/kernel"},
    ),
    "another order": (["a/w 2", "b/w 2"], ["b/w 2", "a/w 2"], "path", {"a/w": "a/w", "b/w": "b/w"}),
    "a second model in one process": (
        ["dense/kernel 44", "dense_1/kernel 44"],
        ["dense_1/kernel 44", "dense_2/kernel 44"],
        "order",
        {"dense_1/kernel": "dense/kernel", "dense_2/kernel": "dense_1/kernel"},
    ),
    "a Sequential that lost its prefix": (
        ["sequential/dense/kernel 34", "sequential/dense_1/kernel 41"],
        ["dense_2/kernel 34", "dense_3/kernel 41"],
        "order",
        {"dense_2/kernel": "sequential/dense/kernel", "dense_3/kernel": "sequential/dense_1/kernel"},
    ),
    "other names for all": (["x/w 2", "y/w 2"], ["p/w 2", "q/w 2"], "order", {"p/w": "x/w", "q/w": "y/w"}),
    "a head of the same shape with another name": (
        ["body/w 44", "head/w 41"],
        ["body/w 44", "new_head/w 41"],
        "name",
        {"body/w": "body/w"},
    ),
    "a new head, wider": (["body/w 44", "head/w 41"], ["body/w 44", "head/w 47"], "name", {"body/w": "body/w"}),
    "a new head on a second model": (
        ["m/dense/w 44", "m/dense_1/w 44", "m/dense_2/w 41"],
        ["m_1/dense_1/w 44", "m_1/dense_2/w 44", "m_1/dense_3/w 47"],
        "name",
        {"m_1/dense_1/w": "m/dense/w", "m_1/dense_2/w": "m/dense_1/w"},
    ),
    "a new head on a second model without a root, whose numbers are shifted": (
        ["dense/w 44", "dense_1/w 44", "dense_2/w 41"],
        ["dense_1/w 44", "dense_2/w 44", "dense_3/w 47"],
        "name",
        {"dense_1/w": "dense/w", "dense_2/w": "dense_1/w"},
    ),
    "unfrozen": (
        ["dense_1/w 44", "dense_2/w 44"],
        ["dense/w 44", "dense_1/w 44", "dense_2/w 44"],
        "name",
        {"dense_1/w": "dense_1/w", "dense_2/w": "dense_2/w"},
    ),
    "frozen": (
        ["dense/w 44", "dense_1/w 44", "dense_2/w 44"],
        ["dense_1/w 44", "dense_2/w 44"],
        "name",
        {"dense_1/w": "dense_1/w", "dense_2/w": "dense_2/w"},
    ),
    "unfrozen in a second model: which one is new cannot be known": (
        ["dense_1/w 44", "dense_2/w 41"],
        ["dense_3/w 44", "dense_4/w 44", "dense_5/w 41"],
        "name",
        {"dense_5/w": "dense_2/w"},
    ),
    "a renamed root and a new head": (
        ["old/body/w 44", "old/head/w 41"],
        ["new/body/w 44", "new/top/w 41", "new/head/w 47"],
        "name",
        {"new/body/w": "old/body/w"},
    ),
    "a prefix that is lost, and a new head": (
        ["sequential/dense/w 34", "sequential/dense_1/w 41"],
        ["dense/w 34", "top/w 47"],
        "name",
        {"dense/w": "sequential/dense/w"},
    ),
    "two parts are no root": (["encoder/dense/w 44", "tail/w 4"], ["decoder/dense/w 44"], "name", {}),
    "variables that share a name, and one more": (
        ["Variable:0 2", "Variable:0 3", "x:0 4"],
        ["Variable:0 2", "Variable:0 3", "x:0 4", "y:0 4"],
        "name",
        {"Variable:0": "Variable:0", "x:0": "x:0"},
    ),
    "nothing in common": (["a/w 2"], ["b/w 3"], "name", {}),
    "nothing was saved": ([], ["b/w 3"], "name", {}),
}


@pytest.mark.parametrize(("saved", "current", "rule", "expected"), EXAMPLES.values(), ids=EXAMPLES)
def test_examples(saved, current, rule, expected):
    assert paired(saved, current) == (rule, expected)


def test_variables_with_the_same_name_are_matched_in_order():
    saved = [("Variable:0", (2,)), ("Variable:0", (2,)), ("x:0", (2,))]
    assert match(saved, [saved[2], saved[0], saved[1]]).pairs == ((2, 0), (0, 1), (1, 2))


def test_matching_by_order_needs_more_than_equal_shapes():
    saved, current = ["x/w 2", "y/w 2"], ["p/w 2", "q/w 2"]
    assert paired(saved, current, alike=lambda i, j: True)[0] == "order"
    assert paired(saved, current, alike=lambda i, j: i != 1) == ("name", {})


@pytest.mark.parametrize("kept", list(itertools.product([True, False], repeat=4)))
def test_any_part_of_a_named_model_is_matched_with_itself(kept):
    """For any layers trained on either side, a name given by hand is matched only with itself."""
    whole = ["m/embed/w 97", "m/block/w 77", "m/norm/w 7", "m/head/w 71"]
    part = [variable for variable, wanted in zip(whole, kept, strict=True) if wanted]
    paths = {variable.partition(" ")[0] for variable in part}
    for saved, current in ((whole, part), (part, whole)):
        assert paired(saved, current)[1] == {path: path for path in paths}
