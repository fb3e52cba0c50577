"""What an optimizer can do with its state: save, restore, extend to other variables, take over from Keras's own.

State is stored by the path of the variable, not by position. So `.keras` and `.weights.h5` files, BackupAndRestore and
ModelCheckpoint restore what they can into a changed model: with a new head, other frozen layers or other automatic
names. `optimizer.restored` then says what was matched and how, and so does the logger "keras_adaptive".

keras.optimizers.LossScaleOptimizer stores its own state (the loss scale) by position. In a model with other variables
Keras skips that state with a warning; the state of the optimizer inside is restored by path.

tf.train.Checkpoint stores by the order of the optimizer's variables, so it restores into the same model only. It
refuses the state of another class before it changes anything. Once the optimizer is built, it also refuses other
slots, shapes or dtypes. Checkpoints of version 0.1.0 restore without that check, and `assert_consumed` finds no
description in them.
"""

from typing import Any

import keras
import numpy as np

from keras_adaptive.core import building, given
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.state import checkpoint, from_keras, left_out, limits, restore, saved_roles, states
from keras_adaptive.core.state.checkpoint import Restored
from keras_adaptive.core.step import scheduled


def get_state(optimizer) -> dict[str, np.ndarray]:
    """Every variable of the optimizer as an array under a flat key, and a "manifest" that describes the arrays.

    `numpy.savez(path, **optimizer.get_state())` saves it; `optimizer.set_state(numpy.load(path))` restores it.
    """
    return {key: np.array(array) for key, array in _to_save(optimizer).items()}


def _to_save(optimizer):
    """The arrays, which may share memory with the variables."""
    return checkpoint.state_of(optimizer) if optimizer._waiting is None else optimizer._waiting.store


def set_state(optimizer, state: Any) -> Restored:
    """Restores what `get_state` returned, by the paths of the variables.

    Args:
        state: a mapping of arrays. If the optimizer is not built, `build` restores it.

    Returns:
        A `Restored`, also stored as `optimizer.restored` and logged: what was matched and how, and what was not.

    Raises:
        ValueError: the state is truncated or damaged, belongs to another algorithm or an optimizer of Keras, or has
            no variable in common with the model. Also if an array has a shape, dtype or value that its variable cannot
            have; for example a negative v, or a count of updates outside of 0 to 2^31 - 2.
        TypeError: the state is not a mapping. In each case the optimizer is unchanged.
    """
    return _restore(optimizer, checkpoint.read(state))


def _restore(optimizer, saved):
    if optimizer.built:
        report = saved_roles.restored(optimizer, saved)
    else:
        restore.check(optimizer, saved)
        report = Restored("build", iterations=saved.iterations)
    # Not by setattr, which would track the arrays.
    vars(optimizer).update(restored=report, _waiting=None if optimizer.built else saved)
    checkpoint.log(report)
    return report


def restore_waiting(optimizer):
    """At the end of build."""
    if optimizer._waiting is not None:
        _restore(optimizer, optimizer._waiting)


def save_own_variables(optimizer, store):
    """Puts `get_state` into Keras's store."""
    for key, array in _to_save(optimizer).items():
        store[key] = array


def load_own_variables(optimizer, store):
    """`set_state` from Keras's store; does nothing for a file that was saved without an optimizer.

    Raises:
        ValueError: as `set_state`; also if the file has a place for the optimizer's state but nothing in it.
    """
    if len(store.keys()):
        optimizer.set_state(store)
    elif checkpoint.is_cut_off(store):
        raise ValueError(
            "The optimizer's state is missing: the file has a place for it and nothing in it. The file is cut off "
            "or damaged; load an earlier one, or load a .keras file with compile=False for the weights only."
        )
    else:
        vars(optimizer).update(restored=Restored("none"))
        checkpoint.log(optimizer.restored)


def set_weights(optimizer, weights):
    """Sets all of `optimizer.variables` by position.

    Raises:
        ValueError: the number or shapes of the arrays do not fit the variables, or a variable cannot have such a
            value. Nothing has changed then.
    """
    weights = list(weights)
    if not optimizer.built:
        raise ValueError("`set_weights` needs an optimizer that is built: call `optimizer.build(variables)` first.")
    expected, given = [tuple(v.shape) for v in optimizer.variables], [tuple(np.shape(w)) for w in weights]
    if given != expected:
        wrong = [
            f"{variable.path}: {tuple(variable.shape)} and not {shape}"
            for variable, shape in zip(optimizer.variables, given, strict=False)
            if tuple(variable.shape) != shape
        ]
        raise ValueError(
            f"`weights` must have an array for each of the {len(expected)} variables, of its shape; {wrong[:3]} "
            f"do not fit. Received: {len(given)} arrays"
        )
    owners = {
        id(v): (state, role) for state in optimizer.plan.states for role, v in checkpoint.all_stored(state).items()
    }
    assignments = []
    for place, (variable, array) in enumerate(zip(optimizer.variables, weights, strict=True)):
        what = f"`weights[{place}]`, {variable.path}"
        if id(variable) in owners:
            accepted = limits.of_role(*owners[id(variable)])
        else:
            accepted = limits.of_scalar(optimizer, variable.name, optimizer.gradient_accumulation_steps)
        array = limits.converted(variable, keras.ops.convert_to_numpy(array), what)
        accepted.check(array, what)
        assignments.append((variable, array))
    limits.assign(optimizer, assignments)


def extend(optimizer, variables):
    """Adds state for variables that will be trained from now on, such as those of a layer that was unfrozen.

    Known variables keep their state. New variables start at this update: their bias corrections and moving averages
    count from here, while the learning rate goes on. In the middle of a window of micro-batches, past micro-batches
    count as zero for the new variables. Afterwards compile the model again with this optimizer. Under a distribution
    strategy, call it inside the strategy's scope.

    Args:
        variables: all variables that will be trained from now on, in the model's order:
            `model.trainable_variables`.

    Raises:
        TypeError: a variable that is not a Keras variable, or not of real numbers.
        ValueError: a variable that the optimizer knows is missing (use `train_only` to leave it out), or a variable
            is given twice. Nothing has changed then.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    >>> model.layers[0].trainable = False
    >>> model.compile(optimizer=Adam(), loss="mse")
    >>> history = model.fit(keras.ops.ones((4, 2)), keras.ops.ones((4, 1)), verbose=0)
    >>> model.layers[0].trainable = True
    >>> model.optimizer.extend(model.trainable_variables)
    >>> model.compile(optimizer=model.optimizer, loss="mse")
    """
    variables = given.variables("variables", variables)
    if not optimizer.built:
        optimizer.build(variables)
        return
    keys = [optimizer._var_key(variable) for variable in variables]
    missing = [state.path for state in optimizer.plan.states if optimizer._var_key(state.variable) not in keys]
    if missing:
        raise ValueError(
            "`variables` must hold every variable that the optimizer knows (pass `model.trainable_variables`); "
            f"it lacks {missing}. Call `train_only` to leave them out. Received: {len(variables)} variables"
        )
    _train(optimizer, variables)


def train_only(optimizer, variables):
    """Trains these variables and no others from now on, for a model in which layers were frozen or unfrozen.

    Variables that are already trained keep their state. The state of variables that are left out is stored in arrays,
    in files and in `get_state`, but not in a tf.train.Checkpoint, which holds only variables. It returns when they are
    given again; their bias corrections then continue from the updates that they have seen. New variables start from
    scratch, as with `extend`. `describe` shows what is left out.

    Afterwards compile the model again with this optimizer. Under a distribution strategy, call it inside the
    strategy's scope.

    Args:
        variables: all variables that will be trained from now on, in the model's order:
            `model.trainable_variables`.

    Raises:
        TypeError: a variable that is not a Keras variable, or not of real numbers.
        ValueError: a variable is given twice, or its stored state does not fit the optimizer's arguments. Nothing has
            changed then.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    >>> optimizer = Adam()
    >>> for trainable in (True, False, True):
    ...     model.layers[0].trainable = trainable
    ...     optimizer.train_only(model.trainable_variables)
    ...     model.compile(optimizer=optimizer, loss="mse")
    ...     history = model.fit(keras.ops.ones((4, 2)), keras.ops.ones((4, 1)), verbose=0)
    """
    variables = given.variables("variables", variables)
    if optimizer.built:
        _train(optimizer, variables)
    else:
        optimizer.build(variables)


def _train(optimizer, variables):
    """Trains only these variables; if it raises, nothing has changed."""
    keys = [optimizer._var_key(variable) for variable in variables]
    if len(set(keys)) != len(keys):
        raise ValueError(f"A variable is given twice. Received: variables={[v.path for v in variables]}")
    current = {optimizer._var_key(state.variable): state for state in optimizer.plan.states}
    with backends.outside_of_steps(optimizer):
        stored = left_out.found(optimizer, [v for k, v in zip(keys, variables, strict=True) if k not in current])
        taken = [id(one) for one in stored.values()]
        leaving = [left_out.of_state(optimizer, state) for key, state in current.items() if key not in keys]
        apart = [one for one in optimizer.left_out if id(one) not in taken] + leaving
        made = _made(optimizer, variables, keys, current, stored, apart)
        for index, state in enumerate(made):
            state.index = index
        for key, state in current.items():
            for variable in checkpoint.all_stored(state).values() if key not in keys else ():
                optimizer._untrack_variable(variable)
    building.adopt(optimizer, made, optimizer.plan.stages)
    vars(optimizer).update(left_out=tuple(apart))


def _made(optimizer, variables, keys, current, stored, apart):
    """The states of the variables: the current ones, and new ones with what is stored for them."""
    before, decided_before = [id(v) for v in optimizer.variables], (optimizer._decided, optimizer._roles)
    iterations = int(keras.ops.convert_to_numpy(optimizer.iterations))
    made, assignments = [], []
    try:
        of_before, known = _known(optimizer, keys, current, stored)
        decided = building.decided(optimizer, variables, of_before, known, apart)
        for index, (key, variable) in enumerate(zip(keys, variables, strict=True)):
            state, one = current.get(key), stored.get(key)
            if state is None:
                state = states.new(optimizer, optimizer.plan.stages, index, variable, decided[index])
                states.add_stored(optimizer, optimizer.plan.stages, state)
                restore.set_added_at(optimizer, state, iterations - (one.updates if one else 0))
            if one is not None:
                assignments += restore.of_left_out(optimizer, state, one, [], [])
                assignments += scheduled.restored(optimizer, state, one.stored, one.updates)
            made.append(state)
        limits.assign(optimizer, assignments)
    except BaseException:
        for variable in optimizer.variables:
            if id(variable) not in before:
                optimizer._untrack_variable(variable)
        vars(optimizer).update(_decided=decided_before[0], _roles=decided_before[1])
        raise
    return made


def _known(optimizer, keys, current, stored):
    """What was decided before for the variables: their groups, and their roles."""
    decided, known = [], []
    for key in keys:
        if key in current:
            decided.append(optimizer._decided[current[key].index])
            known.append(optimizer._roles[current[key].index])
        elif key in stored:
            decision = stored[key].decision
            decided += [decision] if "groups" in decision else []
            known.append({name: decision[name] for name in ("path", "shape", "role")})
    return decided, known


def continue_from(optimizer, other) -> list[str]:
    """Continues a training that Keras's own Adam, AdamW, RMSprop, Adagrad or SGD began.

    Iterations, learning rate (also a schedule), moments, velocities and averaged weights are taken over. Velocities
    that contain eta are divided by the eta of the next update, so that the next step is the one that Keras would take.
    Hyperparameters are not taken over; the differences are returned.

    Args:
        other: a built optimizer of Keras; if this optimizer is built, with the same variables.

    Returns:
        The differences in form or value between the two, one line each; they are also logged.

    Raises:
        TypeError: this optimizer cannot continue the class of `other`.
        ValueError: `other` is not built or has other variables, or the next learning rate is 0 while there are
            velocities. The optimizer is unchanged then.

    Example:

    >>> theta = keras.Variable([1.0, 2.0])
    >>> began = keras.optimizers.Adam(learning_rate=0.5)
    >>> began.apply([keras.ops.ones(2)], [theta])
    >>> optimizer = Adam()
    >>> print(optimizer.continue_from(began)[0])
    epsilon: 1e-07 there, before the correction; here 0.0 outside the root, 1e-16 in it
    >>> print(int(optimizer.iterations), float(optimizer.learning_rate))
    1 0.5
    """
    return from_keras.continue_from(optimizer, other)
