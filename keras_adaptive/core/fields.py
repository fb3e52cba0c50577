"""Fields: how an algorithm declares its arguments, each once, in the body of its class.

    class Lion(AdaptiveOptimizer):
        learning_rate = rate(1e-4)
        beta_1 = fraction(0.9, "weight of the momentum in the step")
        _ = KW_ONLY
        ...

A field has the default of an argument and says what the argument is; its kind says which values are accepted. The
fields give the constructor, its signature, the list of arguments in the docstring, the config and the type stubs.
`learning_rate` is the first field. Fields before `KW_ONLY` may be given by position: these are the arguments of
Keras's class of that name, in its order. Without `KW_ONLY` only the learning rate may be given by position.
"""

import difflib
import inspect
import json
import textwrap
from collections.abc import Mapping
from dataclasses import KW_ONLY as KW_ONLY
from dataclasses import dataclass
from typing import Any, Literal

from keras_adaptive.core import checks
from keras_adaptive.core.checks import Check
from keras_adaptive.core.step.stage import Stage

# Names of the arguments in other libraries.
ALSO_CALLED = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "eps": "epsilon",
    "betas": "beta_1` and `beta_2",
    "b1": "beta_1",
    "b2": "beta_2",
    "ns_steps": "steps",
    "clip_norm": "clipnorm",
    "max_grad_norm": "global_clipnorm",
    "grad_clip": "global_clipnorm",
    "gradient_clip": "global_clipnorm",
    "clip_grad_norm": "global_clipnorm",
    "params": "groups",
    "mask": "groups",
}
# Names of arguments that have another meaning elsewhere, and what to do.
ELSEWHERE = {
    "decay": "Keras 2 used it for the decay of the learning rate, and Keras 3 ignores it. Pass a schedule, such as "
    "`keras.optimizers.schedules.InverseTimeDecay`, as `learning_rate`; the decay of weights is `weight_decay`.",
    "dampening": "Its momentum is torch's with the default, 0: leave it out.",
    "foreach": "Leave it out: updates are joined or compiled without an argument.",
    "fused": "Leave it out: updates are joined or compiled without an argument.",
    "capturable": "Leave it out: updates are joined or compiled without an argument.",
}

# In the docstring of every algorithm.
MORE = "`help(keras_adaptive.AdaptiveOptimizer)` says more about the options."


@dataclass(frozen=True)
class Field:
    """One argument of an optimizer.

    Attributes:
        check: converts and checks its value.
        default: its value if it is not given.
        help: what it is, as a short noun phrase.
        more: further sentences; those of options appear only in the docstring of AdaptiveOptimizer.
        stages: what the option adds to a step (core/step/stage.py).
        static: it is read when the optimizer is built, so it cannot be a schedule.
    """

    check: Check
    default: Any
    help: str
    more: str = ""
    stages: tuple[type[Stage], ...] = ()
    static: bool = False

    @property
    def may_be_scheduled(self) -> bool:
        """Whether a schedule may take its place."""
        return self.check.type in (float, float | None) and not self.static

    def described(self, name: str, full: bool = True) -> str:
        """Its entry in a docstring; `full`: with `more`."""
        default = json.dumps(self.default) if isinstance(self.default, str) else self.default
        said = [self.help, self.check.accepted, f"default {default}", *([self.more] if full and self.more else [])]
        text = ". ".join(part[0].upper() + part[1:].rstrip(".") for part in said)
        return textwrap.fill(
            f"{name}: {text}.", 116, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
        )


def kind(check: Check):
    """A function that declares a field of this kind. It accepts None if that is the default, or if it is `optional`."""

    def declare(
        default: Any,
        help: str,
        more: str = "",
        optional: bool = False,
        stages: tuple[type[Stage], ...] = (),
        static: bool = False,
    ) -> Any:
        accepts = checks.optional(check) if optional or default is None else check
        return Field(accepts, default, help, more, stages, static)

    return declare


fraction = kind(checks.fraction)
share = kind(checks.share)
nonnegative = kind(checks.nonnegative)
positive = kind(checks.positive)
stabiliser = kind(checks.stabiliser)
sole_stabiliser = kind(checks.sole_stabiliser)
growth = kind(checks.growth)
count = kind(checks.count)
natural = kind(checks.natural)
flag = kind(checks.flag)


def rate(default: float, more: str = "") -> Any:
    """The field of a learning rate."""
    return Field(checks.learning_rate, default, "eta, the learning rate", more)


def decay_rate(default: float | None) -> Any:
    """The field of a weight decay, for an algorithm with another default."""
    return Field(checks.weight_decay, default, "lambda, the weight decay")


def one_of(names: tuple[str, ...], default: Any, help: str, more: str = "", **others: Any) -> Any:
    """A field that accepts one of these strings."""
    return kind(checks.one_of(*names))(default, help, more, **others)


def only(value: Any, instead: str) -> Any:
    """A field that accepts only this value, for code that passes it because Keras has the argument.

    Args:
        value: the only one.
        instead: what to do in the place of another value.
    """

    def convert(given):
        if type(given) is not type(value):
            raise TypeError
        return given

    accepted = f"{value!r}; {instead}"
    check = Check(accepted, convert, lambda given: given == value, Literal[value])
    return Field(check, value, "accepted for code that passes it")


def taken_from(cls: type) -> dict[str, Field | Any]:
    """Removes the fields from the body of a class; returns them by name and in order, with `KW_ONLY` among them."""
    found = {name: value for name, value in vars(cls).items() if isinstance(value, Field) or value is KW_ONLY}
    for name in found:
        delattr(cls, name)
    return found


def signature(fields: Mapping[str, Field], positional: int) -> inspect.Signature:
    """The signature of a constructor with these arguments; `positional`: how many may be given by position."""
    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [
            inspect.Parameter(name, kinds[place >= positional], default=one.default, annotation=one.check.type)
            for place, (name, one) in enumerate(fields.items())
        ]
    )


def bound(cls, args: tuple, given: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of the class's constructor by name, with defaults for those that are not given; unchecked.

    Raises:
        TypeError: an argument that the class does not have, one that is given twice, or too many by position.
    """
    names = list(cls.fields)
    positional = names[: cls.positional]
    if len(args) > len(positional):
        raise TypeError(
            f"{cls.__name__} takes {_and(positional)} by position, as Keras does, and all other arguments by name: "
            f"{names[len(positional)]}=... for the next one. Received: {len(args)} arguments by position, "
            f"of which {', '.join(map(checks.shown, args[len(positional) :]))} must be given by name"
        )
    for name in given:
        if name not in cls.fields:
            raise TypeError(f"{unknown(cls, name)} Received: {name}={checks.shown(given[name])}")
    by_position = dict(zip(positional, args, strict=False))
    if twice := sorted(set(by_position) & set(given)):
        raise TypeError(f"{cls.__name__} got `{twice[0]}` by position and by name. Received: {twice[0]} twice")
    return {name: one.default for name, one in cls.fields.items()} | by_position | dict(given)


def unknown(cls, name: str) -> str:
    """The error message for an argument that the class does not have."""
    if name in cls.renamed:
        return f"{cls.__name__} has no argument `{name}`: since version 0.2.0 it is `{cls.renamed[name]}`."
    if name in ELSEWHERE:
        return f"{cls.__name__} has no argument `{name}`. {ELSEWHERE[name]}"
    if ALSO_CALLED.get(name, "").split("`")[0] in cls.fields:
        return f"{cls.__name__} has no argument `{name}`: it is called `{ALSO_CALLED[name]}` here."
    near = difflib.get_close_matches(name, cls.fields, 1)
    if near:
        return f"{cls.__name__} has no argument `{name}`; did you mean `{near[0]}`?"
    return f"{cls.__name__} has no argument `{name}`; it accepts {list(cls.fields)}."


def documented(text: str, own: Mapping[str, Field], options: Mapping[str, Field], full: bool = False) -> str:
    """The docstring of a class, with the sections Args and Raises before its other sections.

    Args:
        text: the docstring in the source file.
        own: the arguments of the class itself.
        options: the arguments that every optimizer has.
        full: describe the options at length.
    """
    text = inspect.cleandoc(text)
    places = [text.find(f"\n{section}:") for section in ("Slots", "Source", "Example")]
    place = min([place for place in places if place >= 0], default=len(text))
    more = "" if full else MORE
    lists = [
        *(one.described(name) for name, one in own.items()),
        *(one.described(name, full) for name, one in options.items()),
    ]
    arguments = textwrap.indent("\n".join(lists), "    ")
    raises = (
        "Raises:\n    ValueError, TypeError: an argument is unknown, of the wrong kind, out of range, or does not fit "
        "another\n        argument.\n"
    )
    head = "\n\n".join(filter(None, [text[:place].rstrip(), more, f"Args:\n{arguments}", raises]))
    return head + text[place:]


def _and(names):
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
