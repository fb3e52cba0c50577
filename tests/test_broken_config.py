"""A damaged config is refused by a consistent message, and a pattern from a file cannot run forever."""

import json

import keras
import pytest
from test_refused_state import JUNK, places, replaced

import keras_adaptive as ka
from keras_adaptive.groups import patterns


def config():
    """Of an optimizer that has something decided for each variable."""
    optimizer = ka.Muon(
        groups=[ka.no_decay_on_vectors(), ka.Group("first", 0.5), ka.Group("last", companion=True)], weight_decay=0.1
    )
    optimizer.exclude_from_weight_decay(var_names=["last"])
    layers = [keras.layers.Dense(4, name="first"), keras.layers.Dense(2, name="last")]
    model = keras.Sequential([keras.Input((3,)), *layers], name="net")
    optimizer.build(model.trainable_variables)
    return json.loads(json.dumps(optimizer.get_config()))


@pytest.mark.parametrize("name", ["decided", "roles", "excluded_from_weight_decay"])
def test_stored_decisions_are_read_or_refused(name):
    """Each value in it by each of JUNK."""
    given, messages = config(), []
    for path in places(given[name]):
        for new in JUNK:
            broken = given | {name: replaced(given[name], path, new)}
            try:
                ka.Muon.from_config(broken)
            except ValueError as error:
                messages.append(str(error))
    assert len(messages) > (20 if name == "excluded_from_weight_decay" else 100)
    for message in messages:
        assert message.startswith("The optimizer's config cannot be read: `")
        assert name in message


@pytest.mark.parametrize("name", ["groups", "weight_decay", "cowclip"])
@pytest.mark.parametrize("new", [3.5, "x", [3], [{}], {"class_name": "Group"}, [{"class_name": "Group", "config": 5}]])
def test_objects_from_outside_the_package_are_refused(name, new):
    if name == "weight_decay" and new == 3.5:
        pytest.skip("a number is what it may be")
    with pytest.raises((ValueError, TypeError), match=f"config cannot be read: `{name}`|`{name}` must be"):
        ka.Muon.from_config(config() | {name: new})


DANGEROUS = [
    "(a+)+$",
    "(a|a)*$",
    "(a*)*b",
    "([a-z]+/?)+$",
    "(?:a|aa)+$",
    "(?P<x>a+){2,}$",
    "((a?){30}a{30})",
    r"(a+)\1+$",
]
DANGEROUS += [".*.*.*.*=", "(?:(?:x)+)+y", r"(\w+\d*)+$", "(a+)+?$", r"(a)\1"]
SAFE = [
    "",
    "bias$",
    "^(a|b|c)$",
    r"block_\d+/",
    r"(_\d+)?$",
    "(ab)+",
    "^(?!.*bias).*kernel",
    "[(+]+[)*]*",
    r"\(a\+\)\+",
    "x{3}",
]


@pytest.mark.parametrize("pattern", DANGEROUS)
def test_a_pattern_that_could_run_forever_is_refused_in_a_file(pattern):
    own = ka.Group(pattern)
    broken = ka.Adam(groups=[own]).get_config()
    with pytest.raises(ValueError, match="a search could run for ever"):
        ka.Adam.from_config(broken)
    excluded = ka.Adam().get_config() | {"excluded_from_weight_decay": {"paths": [], "names": [pattern]}}
    with pytest.raises(ValueError, match="a search could run for ever"):
        ka.Adam.from_config(excluded)
    with pytest.raises(ValueError, match="a search could run for ever"):
        ka.Adam.from_config(ka.Adam(cowclip=ka.CowClip(pattern)).get_config())


@pytest.mark.parametrize("pattern", SAFE)
def test_other_patterns_load(pattern):
    assert patterns.from_file("pattern", pattern) == pattern
    again = ka.Adam.from_config(ka.Adam(groups=[ka.Group(pattern)]).get_config())
    assert again.groups == (ka.Group(pattern),)


def test_the_patterns_that_the_package_makes_load():
    layers = [keras.layers.Embedding(9, 4), keras.layers.Dense(4), keras.layers.Dense(9)]
    model = keras.Sequential([keras.Input((5,)), *layers])
    for groups in (ka.companion_groups(model), ka.layerwise_decay(model, 0.5), [ka.no_decay_on_vectors()]):
        again = ka.Muon.from_config(ka.Muon(groups=list(groups)).get_config())
        assert again.groups == tuple(groups)
