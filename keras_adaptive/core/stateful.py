"""What an optimizer can do with its state: save, restore, extend to other variables, take over from Keras's own."""

from typing import Any

import keras
import numpy as np

from keras_adaptive.core import backends, checkpoint, continuation, states
from keras_adaptive.core.checkpoint import Restored


class Stateful:
    """The part of `AdaptiveOptimizer` that saves, restores and carries over what the optimizer keeps.

    State is kept by the path of the variable, not by position, so a `.keras` or `.weights.h5` file, BackupAndRestore
    and ModelCheckpoint restore what they can into a model with a new head, with other layers frozen, or with other
    automatic names; `optimizer.restored` says afterwards what was matched and how, and so does the log
    "keras_adaptive". Inside keras.optimizers.LossScaleOptimizer the wrapper's own state (the loss scale) goes by
    position: into a model with other variables it is left out by Keras with a warning, while this optimizer's is
    restored by name. tf.train.Checkpoint goes by the optimizer's variables, so it restores into the same model.

    Attributes:
        restored: what the last call that restored a state found, a `Restored`; None before.
    """

    restored: Restored | None = None
    # A state that was loaded before the optimizer was built.
    _waiting: checkpoint.Saved | None = None

    def get_state(self) -> dict[str, np.ndarray]:
        """Every variable of the optimizer as an array under a flat key, and what is what as "manifest".

        What `numpy.savez(path, **optimizer.get_state())` writes, `optimizer.set_state(numpy.load(path))` restores.
        """
        return {key: np.array(array) for key, array in self._state_to_save().items()}

    def _state_to_save(self):
        """The arrays, which may be the memory of the variables themselves."""
        return checkpoint.state_of(self) if self._waiting is None else self._waiting.store

    def set_state(self, state: Any) -> Restored:
        """Restores what `get_state` returned, by the paths of the variables.

        Args:
            state: a mapping of arrays. An optimizer that is not built keeps it until it is.

        Returns:
            A `Restored`, also kept as `optimizer.restored` and logged: what was matched how, and what was not.

        Raises:
            ValueError: the state is truncated, has wrong shapes, is of another algorithm or of Keras's own, or has no
                variable in common with the model. The optimizer is unchanged then.
        """
        return self._restore(checkpoint.read(state))

    def _restore(self, saved):
        if self.built:
            report = checkpoint.restore(self, saved)
        else:
            report = Restored("build", iterations=int(saved.scalars["iteration"]))
        # Not by setattr, which would track the arrays.
        vars(self).update(restored=report, _waiting=None if self.built else saved)
        checkpoint.log(report)
        return report

    def _restore_waiting(self, before):
        """At the end of build; where the state that waits does not fit, the optimizer has what it had `before`."""
        if self._waiting is None:
            return
        try:
            self._restore(self._waiting)
        except ValueError:
            for variable in self.variables[len(before) :]:
                self._untrack_variable(variable)
            self.built = False
            raise

    def save_own_variables(self, store):
        """Puts `get_state` into Keras's store."""
        for key, array in self._state_to_save().items():
            store[key] = array

    def load_own_variables(self, store):
        """`set_state` from Keras's store; of a file that was saved without an optimizer, nothing."""
        if len(store.keys()):
            self.set_state(store)
        else:
            vars(self).update(restored=Restored("none"))
            checkpoint.log(self.restored)

    def set_weights(self, weights):
        """Sets all of `optimizer.variables` by position.

        Raises:
            ValueError: not one array of its shape for each variable. Nothing has changed then.
        """
        weights = list(weights)
        if not self.built:
            raise ValueError("`set_weights` needs an optimizer that is built: call `optimizer.build(variables)` first.")
        expected, given = [tuple(v.shape) for v in self.variables], [tuple(np.shape(w)) for w in weights]
        if given != expected:
            wrong = [
                f"{variable.path}: {tuple(variable.shape)} and not {shape}"
                for variable, shape in zip(self.variables, given, strict=False)
                if tuple(variable.shape) != shape
            ]
            raise ValueError(
                f"`weights` must have one array of its shape for each of the {len(expected)} variables; {wrong[:3]} "
                f"do not fit. Received: {len(given)} arrays"
            )
        super().set_weights(weights)

    def extend(self, variables):
        """Adds state for variables that will be trained from now on, such as those of a layer that was unfrozen.

        The known variables keep their state. The new ones begin at this update: bias corrections and moving averages
        count from here for them, while the learning rate goes on. In the middle of a window of micro-batches, those
        that are past count as zero for the new variables. Compile the model again afterwards, with this optimizer;
        under a distribution strategy, call it inside the strategy's scope.

        Args:
            variables: all variables that will be trained from now on, in the model's order:
                `model.trainable_variables`.

        Raises:
            ValueError: a variable that the optimizer knows is missing, or one is given twice. Nothing has changed then.

        Example:

        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(1)])
        >>> model.layers[0].trainable = False
        >>> model.compile(optimizer=Adam(), loss="mse")
        >>> history = model.fit(keras.ops.ones((4, 2)), keras.ops.ones((4, 1)), verbose=0)
        >>> model.layers[0].trainable = True
        >>> model.optimizer.extend(model.trainable_variables)
        >>> model.compile(optimizer=model.optimizer, loss="mse")
        """
        variables = list(variables)
        if not self.built:
            self.build(variables)
            return
        keys = [self._var_key(variable) for variable in variables]
        known = {self._var_key(state.variable): state for state in self.plan.states}
        missing = [state.path for key, state in known.items() if key not in keys]
        if missing:
            raise ValueError(
                "`variables` must hold every variable that the optimizer knows (pass `model.trainable_variables`); "
                f"it lacks {missing}. Received: {len(variables)} variables"
            )
        if len(set(keys)) != len(keys):
            raise ValueError(f"A variable is given twice. Received: variables={[v.path for v in variables]}")
        with backends.outside_of_steps(self):
            updates = int(keras.ops.convert_to_numpy(self.iterations))
            extended, decided = [], self._decide(variables)
            for index, (key, variable) in enumerate(zip(keys, variables, strict=True)):
                state = known.get(key)
                if state is None:
                    state = states.new(self, index, variable, decided[index])
                    states.add_kept(self, state)
                    checkpoint.set_born(self, state, updates)
                state.index = index
                extended.append(state)
        self._adopt(extended)

    def continue_from(self, other) -> list[str]:
        """Goes on with a training that Keras's own Adam, AdamW, RMSprop, Adagrad or SGD began.

        Iterations, learning rate (a schedule too), moments, velocities and averaged weights are taken over. A velocity
        with eta inside is divided by that of the next update, so that the next step is the one that Keras would take.
        The hyperparameters stay this optimizer's own: what differs is returned.

        Args:
            other: the optimizer of Keras, built; if this one is built, with the same variables.

        Returns:
            What differs in form or value between the two, a line each; logged as well.

        Raises:
            TypeError: `other` is of a class that this one cannot follow.
            ValueError: `other` is not built or has other variables, or the next learning rate is 0 while there are
                velocities. The optimizer is unchanged then.

        Example:

        >>> theta = keras.Variable([1.0, 2.0])
        >>> began = keras.optimizers.Adam(learning_rate=0.5)
        >>> began.apply([keras.ops.ones(2)], [theta])
        >>> optimizer = Adam()
        >>> print(optimizer.continue_from(began)[0])
        epsilon: 1e-07 there, added to the root of v before the correction; 1e-16 here, inside of the root
        >>> print(int(optimizer.iterations), float(optimizer.learning_rate))
        1 0.5
        """
        return continuation.continue_from(self, other)
