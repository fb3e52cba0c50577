"""The arguments of an optimizer: how they are given, set, saved and read again."""

from typing import Any

import keras
from keras import ops

from keras_adaptive.core import checks, evaluation
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.building import counter
from keras_adaptive.core.fields import bound
from keras_adaptive.core.options import OWN
from keras_adaptive.core.schedule import serialized
from keras_adaptive.core.state import states
from keras_adaptive.core.step import loss_scale, stage
from keras_adaptive.groups import assignment, decisions, roles

# First in every config, to appear in the error that Keras raises if this package was not imported.
TO_LOAD = {"to_load": "import keras_adaptive before the file is loaded"}


def arguments(optimizer, args, given) -> dict[str, Any]:
    """All arguments by name, checked."""
    all_given = bound(type(optimizer), args, given)
    checked = {name: one.check(name, all_given[name]) for name, one in optimizer.fields.items()}
    checked |= optimizer.implied(checked)
    if checked["ema_overwrite_frequency"] is not None and not checked["use_ema"]:
        raise ValueError(
            "`ema_overwrite_frequency` must be None unless use_ema=True. "
            f"Received: ema_overwrite_frequency={checked['ema_overwrite_frequency']}, use_ema=False"
        )
    return checked


def shown(optimizer):
    """`repr`: the arguments that differ from their defaults."""
    default = {name: one.default for name, one in optimizer.fields.items()}
    default |= optimizer.implied(default)
    given = {name: getattr(optimizer, name, default[name]) for name in default if name not in ("learning_rate", "name")}
    given = {"learning_rate": _number_or_schedule(optimizer)} | given
    changed = [
        f"{name}={checks.shown(value)}"
        for name, value in given.items()
        if isinstance(value, keras.Variable) or value != default[name]
    ]
    return f"{type(optimizer).__name__}({', '.join(changed)})"


def _number_or_schedule(optimizer):
    """The learning rate as a number, or the schedule or callable that was given.

    While a step is traced the number is not known; then it is the variable.
    """
    rate = optimizer._learning_rate
    if not isinstance(rate, keras.Variable):
        return rate
    value = backends.read(rate)
    # The shortest decimal number that rounds to this value: 0.001, not 0.0010000000474974513.
    return rate if backends.is_symbolic(value) else float(str(ops.convert_to_numpy(value)))


def set_attribute(optimizer, name, value):
    if name not in optimizer.fields or name == "learning_rate":
        return keras.optimizers.Optimizer.__setattr__(optimizer, name, value)
    value, old = optimizer.fields[name].check(name, value), optimizer.__dict__.get(name)
    value = optimizer.implied({name: value}).get(name, value)
    if name == "loss_scale_factor":
        loss_scale.check_new(optimizer, value)
    if optimizer.__dict__.get("built") and value != old:
        raise ValueError(
            f"`{name}` cannot change after the optimizer is built, because compiled updates hold its value "
            f"{old!r}; make a new optimizer. Received: {name}={value!r}"
        )
    keras.optimizers.Optimizer.__setattr__(optimizer, name, value)
    if "plan" in vars(optimizer):
        try:
            check_combinations(optimizer)
        except (ValueError, TypeError):
            keras.optimizers.Optimizer.__setattr__(optimizer, name, old)
            raise


def check_combinations(optimizer):
    _check_decay(optimizer)
    _check_lazy(optimizer)
    evaluation.check(optimizer)
    assignment.check(optimizer)


def _check_decay(optimizer):
    if optimizer.decay == "rule" and optimizer.weight_decay_mode != "decoupled":
        raise ValueError(
            f"`weight_decay_mode` must be 'decoupled' for {type(optimizer).__name__}, whose rule has its own place for "
            f"weight decay. Received: weight_decay_mode={optimizer.weight_decay_mode!r}"
        )


def _check_lazy(optimizer):
    """What depends on the variable, such as a constraint, is checked by `apply`."""
    if optimizer.sparse != "lazy":
        return
    for one in stage.active(optimizer):
        of_some_rows = not (one.needs_all_rows or one.couples_elements)
        if not of_some_rows and type(one).applies_to is stage.Stage.applies_to:
            raise ValueError(
                f"`sparse` must be 'exact' with `{one.option}`, which concerns all rows of a table; leave one of "
                f"them out. Received: sparse='lazy', {one.option}={getattr(optimizer, one.option)!r}"
            )


def learning_rate(optimizer):
    """The learning rate of the next update.

    A number may be set to another number at any time. A schedule or a callable may replace a number, or the other way
    round, until a step was compiled; then it is an error, because the compiled step holds what it was compiled with.
    """
    return optimizer._get_current_learning_rate()


def set_learning_rate(optimizer, learning_rate):
    learning_rate = checks.learning_rate("learning_rate", learning_rate)
    is_number, was_number = isinstance(learning_rate, float), isinstance(optimizer._learning_rate, keras.Variable)
    if optimizer._was_traced and not (is_number and was_number):
        raise ValueError(
            "`learning_rate` can only be set from one number to another after a step was compiled, because the "
            "step holds the schedule or callable that it was compiled with. Make a new optimizer with this "
            "learning rate, call `new.set_state(old.get_state())` and compile the model with it. "
            f"Received: learning_rate={learning_rate!r}, in the place of {optimizer._learning_rate!r}"
        )
    if is_number and not was_number:
        initial, dtype = states.Constant(learning_rate), keras.config.floatx()
        optimizer._learning_rate = counter(optimizer, "learning_rate", dtype, initial)
    else:
        keras.optimizers.Optimizer.learning_rate.fset(optimizer, learning_rate)


def eta(optimizer):
    """The learning rate of the next update as a tensor."""
    is_traced, rate = _is_traced(optimizer), optimizer._get_current_learning_rate()
    if isinstance(rate, keras.Variable):
        return backends.read(rate)
    if is_traced and not checks.is_schedule(optimizer._learning_rate) and not backends.is_symbolic(rate):
        raise ValueError(
            "`learning_rate` must return a tensor or a variable where a step is compiled: a number would be read "
            "once and never again. Use a LearningRateSchedule, or set `optimizer.learning_rate` to a number "
            f"whenever it changes. Received: learning_rate={optimizer._learning_rate!r}, which returned {rate!r}"
        )
    tensor = ops.convert_to_tensor(rate)
    number = backends.at_hand(tensor)
    if number is not None and not checks.learning_rate.holds(number):
        raise ValueError(
            "`learning_rate` must be a finite real number of at least 0 at every update. "
            f"Received: learning_rate={optimizer._learning_rate!r}, which returned {number}"
        )
    return tensor


def _is_traced(optimizer):
    """Whether a step is being traced. Notes it, because a traced step does not change."""
    is_traced = backends.is_symbolic(backends.read(optimizer._iterations))
    vars(optimizer).update(_was_traced=optimizer._was_traced or is_traced)
    return is_traced


def get_config(optimizer):
    """All arguments, for `from_config`, and what they decided for the variables."""
    config = TO_LOAD | keras.optimizers.Optimizer.get_config(optimizer)
    if isinstance(optimizer._learning_rate, keras.Variable):
        config["learning_rate"] = _number_or_schedule(optimizer)
    config |= {name: getattr(optimizer, name) for name in OWN}
    config |= {name: serialized(getattr(optimizer, name)) for name in [*optimizer.hyperparameters, "weight_decay"]}
    if optimizer.groups is not None:
        config["groups"] = [keras.saving.serialize_keras_object(group) for group in optimizer.groups]
    if optimizer.cowclip is not None:
        config["cowclip"] = keras.saving.serialize_keras_object(optimizer.cowclip)
    decided, known = optimizer._decided, optimizer._roles
    if isinstance(decided, list) and isinstance(known, list):
        # Variables left out of training count too: a group may have no others.
        apart = [one.decision for one in optimizer.left_out]
        names = ("path", "shape", "groups", "decays")
        decided = decided + [{name: one[name] for name in names} for one in apart if "groups" in one]
        known = known + [{name: one[name] for name in ("path", "shape", "role")} for one in apart]
    if not (optimizer.groups or any(optimizer._excluded.values())):
        decided = None
    return config | {"excluded_from_weight_decay": optimizer._excluded, "decided": decided, "roles": known}


def _of_this_version(cls, config):
    """A config of version 0.1.0 with the new names of its arguments, also in its groups."""
    if not any(name in config and name not in cls.fields for name in cls.renamed):
        return config
    old = {name: config[name] for name in cls.renamed if name in config}

    def converted(one):
        said = {name: value for name, value in one.items() if name not in cls.renamed}
        # A group that sets one of them sets all: in 0.1.0 the others had the values of the optimizer.
        speaks = any(name in one for name in old)
        return said | {cls.renamed[name]: one.get(name, value) for name, value in old.items() if speaks}

    groups = config.get("groups")
    if isinstance(groups, list | tuple):
        is_group = [isinstance(one, dict) and isinstance(one.get("config"), dict) for one in groups]
        groups = [
            one | {"config": converted(one["config"])} if usual else one
            for one, usual in zip(groups, is_group, strict=True)
        ]
    return converted(config) | ({"groups": groups} if "groups" in config else {})


def from_config(cls, config, custom_objects=None):
    """The optimizer with these arguments; what was decided for variables before stays so."""
    config = _of_this_version(cls, {name: value for name, value in config.items() if name not in TO_LOAD})
    # Version 0.1.0 decided by names, and wrote nothing about roles.
    known = decisions.known_roles(config.pop("roles", roles.VERSION_0_1 if "decided" in config else None))
    excluded, decided = config.pop("excluded_from_weight_decay", None), config.pop("decided", None)
    objects = [name for name in (*cls.hyperparameters, "weight_decay") if isinstance(config.get(name), dict)]
    for name in ("groups", "cowclip", *objects):
        if config.get(name) is not None:
            config[name] = decisions.deserialized(name, config[name], custom_objects)
    decided = decisions.decided(decided, len(config.get("groups") or ()))
    excluded = None if excluded is None else decisions.excluded(excluded)
    optimizer = keras.optimizers.Optimizer.from_config.__func__(cls, config, custom_objects=custom_objects)
    if excluded is not None:
        optimizer.exclude_from_weight_decay(var_names=excluded["names"])
        vars(optimizer).update(_excluded=excluded)
    vars(optimizer).update(_decided=decided, _roles=known)
    return optimizer
