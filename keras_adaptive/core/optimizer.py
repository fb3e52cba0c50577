"""AdaptiveOptimizer: the interface that every algorithm of the package has for Keras."""

from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from keras_adaptive.core import building, checks, configured, definition, describe, evaluation, given
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.fields import Field, rate
from keras_adaptive.core.options import OF_KERAS
from keras_adaptive.core.state import by_position, checkpoint, stateful
from keras_adaptive.core.state.left_out import LeftOut
from keras_adaptive.core.state.slots import Scalar, Slot
from keras_adaptive.core.state.states import paths
from keras_adaptive.core.step import atomic, cowclip, gradients, loss_scale, monitor, order, scheduled, stateless


class AdaptiveOptimizer(keras.optimizers.Optimizer):
    """Base of all algorithms: everything but the rule.

    An algorithm is a subclass that declares its arguments (core/fields.py) and `slots`, and defines `rule`:

        rule(h, theta, g, *slots) -> (delta, new_slots)          theta <- theta - delta

    It is a pure function of float32 tensors (float64 for float64 weights). g is the clipped gradient of the step. `h`
    has every hyperparameter by name, `eta` (the scheduled learning rate), `t` (the number of the update, from 1) and
    `debias(beta)` = 1 - beta^t. For algorithms that need more:

    - `about` returns what the rule needs to know about one variable, which it reads as `h.variable.NAME`;
    - `scalars`, `local_sums` and `update_scalars` are for numbers that depend on all variables;
    - `common_hyperparameters` names the hyperparameters that no group can change;
    - `elementwise = True` says that the step of each element depends only on the gradients of that element. Then some
      rows of a table can be updated alone, and the elements of several variables as one row;
    - `stacks = True` says that the rule accepts several variables of one shape, stacked along a first axis;
    - `decay = "rule"` says that the rule applies `h.weight_decay` itself;
    - `evaluation_slot` names the slot with the weights that a model is evaluated at;
    - `training_weights` computes the training weights from the slots, where that is possible;
    - `first_average` is the update at which moving averages begin;
    - `shrinks = True` says that its steps become small without a schedule, for the list of optimizers.

    A change of an argument after the optimizer is built raises a ValueError, because compiled code holds the old value.
    The learning rate may change at any time. `build` raises a ValueError for `shard_state` on a backend other than JAX,
    or without a distribution that has a data-parallel axis.

    Example:

    A custom algorithm.

    >>> from keras_adaptive.core.fields import fraction, rate
    >>> class Momentum(AdaptiveOptimizer):
    ...     learning_rate = rate(0.1)
    ...     beta = fraction(0.9, "decay rate of the moving average of the gradient")
    ...     slots = ("m",)
    ...
    ...     def rule(self, h, theta, g, m):
    ...         m = h.beta * m + (1 - h.beta) * g
    ...         return h.eta * m, (m,)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> Momentum(learning_rate=1.0, beta=0.5).apply([keras.ops.ones(2)], [theta])
    >>> print(keras.ops.convert_to_numpy(theta))
    [0.5 1.5]
    """

    # What an algorithm declares.
    slots: ClassVar[tuple[str | Slot, ...]] = ()
    scalars: ClassVar[tuple[Scalar, ...]] = ()
    common_hyperparameters: ClassVar[tuple[str, ...]] = ()
    elementwise: ClassVar[bool] = False
    stacks: ClassVar[bool] = False
    decay: ClassVar[str] = "core"
    evaluation_slot: ClassVar[str | None] = None
    shrinks: ClassVar[bool] = False
    first_average: ClassVar[int] = 1
    # Arguments of version 0.1.0 that have another name now, by their old names.
    renamed: ClassVar[Mapping[str, str]] = {}

    # Made from its fields: all arguments, those that are not options, how many may be given by position, and the
    # checks of the algorithm's hyperparameters.
    fields: ClassVar[Mapping[str, Field]] = {}
    own_fields: ClassVar[Mapping[str, Field]] = {"learning_rate": rate(0.001)}
    positional: ClassVar[int] = 1
    hyperparameters: ClassVar[Mapping[str, checks.Check]] = {}

    # The report of the last call that restored a state, and the state of variables that `train_only` left out.
    restored: checkpoint.Restored | None = None
    left_out: tuple[LeftOut, ...] = ()
    # A state that was loaded before the optimizer was built.
    _waiting: checkpoint.Saved | None = None
    # Pairs of a state and the training weights of its variable, while the variable holds its evaluation weights.
    set_aside: tuple[tuple[Any, Any], ...] = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        definition.complete(cls)

    def __init__(self, *args, **given):
        arguments = configured.arguments(self, args, given)
        of_keras = {name: arguments.pop(name) for name in ("learning_rate", *OF_KERAS)}
        # Keras refuses 1, with which a user who tries several numbers begins.
        accumulation_steps = of_keras.pop("gradient_accumulation_steps")
        super().__init__(**of_keras)
        self.gradient_accumulation_steps = accumulation_steps
        for name, value in arguments.items():
            setattr(self, name, value)
        configured.check_combinations(self)
        self.loss_scale = loss_scale.made(self)
        backends.describe_in_checkpoints(
            self, lambda: by_position.description(self), lambda saved: by_position.check_description(self, saved)
        )
        # Not by setattr: Keras and TensorFlow would wrap the lists.
        self.__dict__.update(_excluded={"paths": [], "names": []}, _decided=None, _roles=None, _was_traced=False)
        self.__dict__.update(plan=None, of_all=None, common={}, corrections={})

    # Arguments (core/configured.py)
    __repr__ = configured.shown
    __setattr__ = configured.set_attribute
    learning_rate = property(configured.learning_rate, configured.set_learning_rate)
    eta = configured.eta
    get_config = configured.get_config
    from_config = classmethod(configured.from_config)

    # State (core/state/stateful.py)
    get_state = stateful.get_state
    set_state = stateful.set_state
    set_weights = stateful.set_weights
    save_own_variables = stateful.save_own_variables
    load_own_variables = stateful.load_own_variables
    extend = stateful.extend
    train_only = stateful.train_only
    continue_from = stateful.continue_from

    # Evaluation weights (core/evaluation.py)
    evaluation_weights = evaluation.evaluation_weights
    finalize_variable_values = evaluation.finalize_variable_values
    has_evaluation_weights = property(evaluation.has_evaluation_weights)

    # The loss scale, and what was skipped (core/step/loss_scale.py)
    skips_nonfinite = property(loss_scale.skips_nonfinite)
    skipped_elements = property(loss_scale.skipped_elements)
    dynamic_scale = property(loss_scale.dynamic_scale)
    scale_loss = loss_scale.scale_loss

    # What happened in an update (core/step/monitor.py)
    metrics = property(monitor.metrics)
    metrics_by_variable = monitor.metrics_by_variable

    @property
    def iterations(self):
        """The number of updates done; at most 2^31 - 1.

        At that number, the next step raises a ValueError if the number is in the host's memory (eager steps on a CPU).
        In a compiled step, or on an accelerator, the number no longer changes; nor do bias corrections and schedules.
        """
        return self._iterations

    @property
    def variables(self):
        """The optimizer's own variables: counters, learning rate, slots."""
        if self.built:
            stateless.check_fit(self)
        return super().variables

    def rule(self, h, theta, g, *slots):
        """Delta of theta <- theta - delta, and the new slots."""
        raise NotImplementedError(f"{type(self).__name__} defines no rule")

    def about(self, role, h):
        """What the rule needs to know about one variable, by name; the rule reads it as `h.variable.NAME`.

        `role` is a `keras_adaptive.groups.roles.Role`: the variable's path, shape, kind and matrix. `h` has the
        variable's hyperparameters, which depend on its groups. Two names have a meaning for the core:

        - "learning_rate_multiplier" multiplies the variable's eta;
        - "elementwise" replaces the class's attribute for this variable; "rows" says that the step of each row depends
          only on the gradients of that row.
        """
        return {}

    def local_sums(self, h, theta, g, *slots):
        """The contribution of one variable to the sums over all variables: scalars by name."""
        return {}

    def update_scalars(self, h, sums, *args: Any, **scalars: Any):
        """The new `scalars` by name, from the sums over all variables and the old scalars; the rule finds them in h."""
        raise NotImplementedError(f"{type(self).__name__} has scalars and must define `update_scalars`")

    def training_weights(self, h, *slots):
        """The training weights, from one variable's hyperparameters and slots; None if the slots do not tell them."""
        return None

    def check_together(self, *args: Any, **hyperparameters: Any) -> None:
        """Raises for hyperparameters that are valid one by one but not together.

        It is called for every combination of groups that a variable has.
        """

    @classmethod
    def implied(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The values of arguments that follow from other arguments, by name.

        Args:
            given: all arguments of the constructor, or those of a group.
        """
        return {}

    # Build

    @backends.opaque
    def build(self, variables):
        """Makes the slots of the variables to train; a second call with the same variables does nothing."""
        variables = given.variables("variables", variables)
        if self.built:
            if [self._var_key(v) for v in variables] == [self._var_key(v) for v in self._trainable_variables]:
                return
            raise ValueError(
                f"The optimizer is already built with {paths(self._trainable_variables)}; call `extend` to train "
                "more variables, `train_only` to train other variables instead, or make a new optimizer. "
                f"Received: variables={paths(variables)}"
            )
        with atomic.uninterrupted(), atomic.nothing_if_raised(self), backends.building():
            building.build(self, variables)
            stateful.restore_waiting(self)

    @backends.opaque
    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Keras's method: excludes variables, or regular expressions of names, from weight decay; before `build`."""
        if self.built:
            raise ValueError(
                "`exclude_from_weight_decay` must be called before the optimizer is built, because `build` decides "
                "which variables are decayed; make a new optimizer. "
                f"Received: var_list={var_list}, var_names={var_names}"
            )
        super().exclude_from_weight_decay(var_list, var_names)
        self.__dict__.update(_excluded={"paths": paths(var_list or []), "names": list(var_names or [])})

    def describe(self):
        """A table to print; a row, `describe()[0]`, has path, role, learning_rate, weight_decay, slots, state_bytes."""
        if not self.built:
            raise ValueError("`describe` needs an optimizer that is built: call `build(variables)` first.")
        return describe.Table.of(self)

    # Apply

    @backends.opaque
    def apply_gradients(self, grads_and_vars):
        """`apply` for pairs (gradient, variable); returns `iterations`."""
        self.apply(*gradients.pairs(grads_and_vars))
        return self._iterations

    @backends.opaque
    def apply(self, grads, trainable_variables=None, counts=None):
        """Takes one step, or one micro-batch of it.

        Args:
            grads: list of gradients, None for a variable without one. A gradient is dense, a tf.IndexedSlices
                (TensorFlow), or one of JAX's sparse arrays, which are made dense. Under a distribution strategy each
                replica passes its own gradients, and the update uses their sum over the replicas.
            trainable_variables: the variables of the gradients. The default is the variables that the optimizer was
                built with, in that order. The first call builds the optimizer.
            counts: with `cowclip`, how often each row was looked up in the batch, by the path of the variable. It is
                needed for each clipped variable whose gradient is not a tf.IndexedSlices. Under a distribution
                strategy each replica passes its own counts.

        Raises:
            TypeError: a variable is not a Keras variable, a gradient is not a tensor, or one of them is not of real
                numbers.
            ValueError: there are no gradients; a variable is unknown or given twice; a gradient has another shape than
                its variable; counts are missing or do not fit; `iterations` is at its limit. Also for a call from
                outside the strategy, and for a dynamic loss scale by which no loss was multiplied. Nothing has changed
                then.
        """
        self._apply(gradients.listed(grads), trainable_variables, counts)

    def _apply(self, grads, trainable_variables=None, counts=None, hyperparameters=None):
        if trainable_variables is None:
            if not self.built:
                raise ValueError("`trainable_variables` must be given until the optimizer is built. Received: None")
            variables = self._trainable_variables
        else:
            variables = given.variables("trainable_variables", trainable_variables)
        if self.built and not (grads or variables or self._trainable_variables):
            # `fit` of a model without trainable weights.
            return
        gradients.check(grads, variables)
        keys = [self._var_key(variable) for variable in variables]
        if len(set(keys)) != len(keys):
            raise ValueError(f"A variable is given twice. Received: trainable_variables={paths(variables)}")
        backends.check_context(self)
        loss_scale.check_loss_is_scaled(self)
        if not self.built:
            self.build(variables)
        in_order = gradients.in_order(self, keys, grads, variables)
        gradients.check_lazy(self, in_order)
        counts = cowclip.given(self.plan.states, in_order, counts)
        hyperparameters = scheduled.given(self, hyperparameters)
        with atomic.uninterrupted():
            order.apply(self, in_order, counts, hyperparameters)

    @backends.opaque
    def stateless_apply(self, optimizer_variables, grads, trainable_variables, counts=None, hyperparameters=None):
        """Keras's method: `apply` for values instead of variables; returns the new values.

        Args:
            optimizer_variables, trainable_variables: the values of `optimizer.variables` and of the variables that the
                optimizer was built with, in their order.
            grads, counts: see `apply`.
            hyperparameters: numbers or scalar tensors, by name, that replace the optimizer's own in this step. They may
                be traced, so that one compiled step serves a sweep. Values of a group are not replaced. Pass the same
                values at every step: bias corrections take them as constants, and slots are made for the optimizer's
                own values. For a value that changes pass a LearningRateSchedule to the constructor.

        Returns:
            The new trainable variables, and the new optimizer variables.

        Raises:
            ValueError: the optimizer is not built; the values do not fit its variables in number or shape, or belong
                to a model that trains other variables; or a hyperparameter is out of range.
            TypeError: a hyperparameter that does not exist, or that no step can change.
        """
        if not self.built:
            raise ValueError("`stateless_apply` needs an optimizer that is built: call `build(variables)` first.")
        grads = gradients.listed(grads)
        stateless.check(self, optimizer_variables, grads, trainable_variables)
        variables = [*self._trainable_variables, *self.variables]
        mapping = zip(variables, [*trainable_variables, *optimizer_variables], strict=True)
        with keras.StatelessScope(state_mapping=list(mapping)) as scope:
            self._apply(grads, None, counts, hyperparameters)
        new = [scope.get_current_value(variable) for variable in variables]
        return new[: len(self._trainable_variables)], new[len(self._trainable_variables) :]

    @backends.opaque
    def update_step(self, gradient, variable, learning_rate):
        """The update of one variable, for callers that do the rest of a step themselves.

        It clips, applies the rule, decays and assigns. It does not unscale, sum over replicas, accumulate or count.
        """
        if self.scalars:
            raise ValueError(
                f"{type(self).__name__} cannot update a single variable, because its step depends on all variables: "
                "call `apply`."
            )
        state = self.plan.states[self._get_variable_index(variable)]
        (gradient,) = gradients.listed([gradient])
        gradients.check([gradient], [variable])
        order.update_one(self, state, gradient, variable, learning_rate)


definition.complete(AdaptiveOptimizer)
