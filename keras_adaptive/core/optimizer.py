"""AdaptiveOptimizer: the face that every algorithm of the package shows to Keras."""

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
from keras import ops

from keras_adaptive.core import (
    backends,
    checks,
    cowclip,
    describe,
    evaluation,
    gradients,
    groups,
    loss_scale,
    monitor,
    options,
    states,
    step,
)
from keras_adaptive.core.slots import Scalar, Slot, as_slots
from keras_adaptive.core.stateful import Stateful
from keras_adaptive.core.states import path, paths


class AdaptiveOptimizer(
    Stateful,
    evaluation.Evaluated,
    loss_scale.Scaled,
    monitor.Monitored,
    options.Configured,
    keras.optimizers.Optimizer,
):
    """Base of all algorithms: everything but the rule.

    An algorithm is a subclass that declares its `hyperparameters` and `slots` and defines `rule`:

        rule(h, theta, g, *slots) -> (delta, new_slots)          theta <- theta - delta

    a pure function of float32 (float64 for float64 weights) tensors, g the clipped gradient of the whole step. `h` has
    every hyperparameter by name, `eta` (the scheduled learning rate), `t` (the number of the update, from 1) and
    `debias(beta)` = 1 - beta^t. Where an algorithm needs more: `about` tells the rule what it has to know of one
    variable, such as whether it is a matrix; `scalars`, `gather` and `settle` are for numbers that depend on all
    variables, and `common_hyperparameters` names those that no group can change; `elementwise = True` says that each
    element's step depends on nothing but its own gradients, so that some rows of a table can be updated alone, or the
    elements of several variables come as one row (`about` may say so of one variable, and knows its shape);
    `decay = "rule"` says that the rule applies `h.weight_decay` itself; `evaluation_slot` names the slot with the
    weights that a model is evaluated at, if those are others than it is trained at, and `training_weights` gives these
    from the slots, where it can.

    Args:
        learning_rate: a real number of at least 0, a `keras.optimizers.schedules.LearningRateSchedule` (called with
            the number of updates done) or a callable without arguments.
        given: the options, what the user gave besides the algorithm's own arguments:
            groups: a list of `Group`, variables with other hyperparameters than the rest. Default None.
            weight_decay: None, or lambda (at least 0), or a LearningRateSchedule of it.
            weight_decay_mode: "decoupled": theta <- theta - eta lambda theta, with the eta of the update and the theta
                before it (the default); "independent": theta <- theta - lambda theta, whatever eta is; "coupled":
                g <- g + lambda theta after clipping, the L2 penalty.
            clipnorm, global_clipnorm, clipvalue: at most one of them, above 0: the largest norm of each gradient, the
                largest norm of all gradients together, the largest magnitude of an element.
            use_ema, ema_momentum, ema_overwrite_frequency: a moving average of the weights, its momentum in [0, 1)
                (default 0.99), and after how many updates the weights are set to it (default: after training).
            loss_scale_factor: None, or what the loss is multiplied by before it is differentiated (above 0), or
                "dynamic": by `dynamic_scale`, which begins at 2**15, is halved (to no less than 1) by a call whose
                gradients hold an infinity or a NaN anywhere, on any replica, and is doubled by 2000 finite calls in a
                row. Such a call is left out as by skip_nonfinite. Under the policy mixed_float16 a model must be
                compiled with `auto_scale_loss=False`, or Keras would scale the loss once more.
            gradient_accumulation_steps: None, or over how many calls the gradients are averaged to make one update.
                Schedules, bias correction, decay, the average and `iterations` count updates.
            cowclip: None, or a `CowClip`, which clips the gradients of embedding tables row by row. Default None.
            cautious: take only those coordinates of the rule's step that go against the gradient, enlarged by how few
                they are, delta <- delta M size / (sum(M) + 1) with M = 1 where delta g > 0, else 0 (Liang, Chen, Liu
                and Liu, 2024). Weight decay stays outside, but for a class whose rule has its own place for it. Default
                False.
            skip_nonfinite: leave out an update whose gradients hold an infinity or a NaN anywhere, on any replica, and
                count it in `skipped_updates`. A window of accumulation is left out as a whole. Default False.
            sparse: for a gradient that holds some rows of a table, as TensorFlow's of an Embedding does; equal rows are
                summed in any case. "exact" (default): the update equals that by the dense gradient to rounding. It
                costs what the rows cost where rows without a gradient stand still: SGD without momentum, Adagrad,
                Adadelta, and RMSprop without momentum. The averages of the last two fade meanwhile; that is caught up
                when the row is next read, for which 4 bytes a row are kept, and only for variables that are named
                "...embeddings", as those of Keras's layers are. Weight decay, momentum, an average of the weights,
                accumulation, a constraint, `monitor`, `cautious` and `cowclip` are about all rows: the update passes
                over the whole table then, as it does with all other algorithms. "lazy": only the rows that the
                gradient holds are read and written, weights and slots. While a row has no gradient, its momentum moves
                it no further, it is not decayed and its averages do not fade; t and eta are those of the whole step.
                Refused by `apply` where the algorithm or an option is about all rows, slots in eight bits with their
                scales among them. A dense gradient, the only kind that JAX and Keras's torch have, holds all rows.
            jit_update: compile the update; in a step that is compiled as a whole, such as any under JAX, it has no
                effect. On TensorFlow it runs as one program that XLA compiles, inside whatever graph calls it: with
                "auto" (default) unless a variable has a constraint that is not Keras's own, which may hold what XLA
                refuses; with True always, with False never. Rows of a table that are updated alone stay outside of it.
                On torch True has torch.compile make loops in which each tensor is read and written once, or a few times
                for a rule with norms: seconds in the first step, and in a later one in which a variable has its first
                gradient. It needs a C++ compiler on a CPU and Triton on a GPU; a ValueError says so where it does not
                work. Variables that are not contiguous or have a constraint or `cowclip` stay outside, and so do rules
                that cannot be recorded, such as Shampoo's and SOAP's for matrices, which decide by the numbers what to
                compute. "auto" (default) and False go operation by operation, with small variables joined.
            slot_dtype: what the algorithm's slots of the variable's shape are stored in. "float32" (default): in the
                dtype of the arithmetic, which is float64 for float64 weights. "bfloat16": in half of the memory,
                written with stochastic rounding. Rounded to the nearest number, a moving average with beta_2 0.999
                would stand still: its steps are smaller than half of the spacing. "int8": in a quarter of the memory,
                in codes of eight bits, written with stochastic rounding too, and one scale for each row (the last
                axis, or as many of the last as hold 64 elements): for Adam 2.01 bytes per parameter of a (1024, 1024)
                matrix. Neighbouring codes differ by 3 % at the top and by more below, down to 1e-6 of the row's
                largest value for a gradient's average and 1e-12 for its square's; coordinates whose gradients are
                smaller than that take smaller steps than they would. A row that holds an infinity or a NaN becomes
                NaN. In the dtype of the arithmetic stay variables of fewer than 4,096 elements, embeddings (whose own
                name, or whose layer's, holds "embedding") and slots that hold weights or that are subtracted from
                each other, such as RMSprop's if it is centered. A `Group` with a `slot_dtype` decides for its
                variables, embeddings and small ones too. A state that was saved with another slot_dtype is taken over.
                Accumulated gradients and averages of the weights are not slots and stay in the dtype of the
                arithmetic.
            stochastic_rounding: write weights that are stored in bfloat16 (and the average of them that replaces them)
                with stochastic rounding, so that steps below half of their spacing are not lost. Has no effect on
                float32 and float64 weights; float16 weights are refused. Default False.
            seed: of the bits by which is rounded: a whole number of at least 0, default 0. The same seed gives the same
                bits on every backend, device and replica; they depend on nothing else but the element's place, the
                variable's place, what is rounded and the number of the update.
            monitor: measure every update, for `metrics`, `metrics_by_variable` and the callback `OptimizerMonitor`.
                Keeps five more numbers for each variable, which are saved with the state. Default False.
            shard_state: JAX only, under a `keras.distribution`: lay each slot, accumulator and average over the devices
                of the data-parallel axis, along its first free dimension that divides by their number, while the
                weights stay where they are. State per device falls to that part (and what does not divide). Default
                False.
            name: name of the optimizer's variables. Default: the class's, made unique.
        hyperparameters: the algorithm's own, by name.

    Raises:
        ValueError, TypeError: for an argument that is unknown, of the wrong kind or out of range. A hyperparameter or
            option that is changed after the optimizer is built raises too: what was compiled holds the old one. The
            learning rate may change at any time. `build` raises a ValueError for `shard_state` on another backend or
            without a distribution that has a data-parallel axis.
    """

    slots: ClassVar[tuple[str | Slot, ...]] = ()
    elementwise: ClassVar[bool] = False
    decay: ClassVar[str] = "core"

    scalars: ClassVar[tuple[Scalar, ...]] = ()
    common_hyperparameters: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.slots = as_slots(cls.slots)

    def __init__(self, learning_rate: Any, given: Mapping[str, Any], **hyperparameters: Any):
        own, of_keras, accumulation_steps = self._sorted_out(given)
        checked = {name: self.hyperparameters[name](name, value) for name, value in hyperparameters.items()}
        super().__init__(learning_rate=checks.learning_rate("learning_rate", learning_rate), **of_keras)
        # Keras refuses 1, which is what a user who tries several numbers begins with.
        self.gradient_accumulation_steps = accumulation_steps
        for name, value in {**own, **checked}.items():
            setattr(self, name, value)
        self._check_combinations()
        self._make_loss_scale()
        # Not by setattr: Keras and TensorFlow would wrap the lists.
        self.__dict__.update(_excluded={"paths": [], "names": []}, _decided=None, plan=None, common={}, whole=None)

    @property
    def iterations(self):
        """How many updates were done."""
        return self._iterations

    def eta(self):
        """The learning rate of the next update as a tensor."""
        eta = self._get_current_learning_rate()
        return backends.read(eta) if isinstance(eta, keras.Variable) else ops.convert_to_tensor(eta)

    def rule(self, h, theta, g, *slots):
        """Delta of theta <- theta - delta, and the new slots."""
        raise NotImplementedError(f"{type(self).__name__} defines no rule")

    def about(self, path, shape, hyperparameters):
        """What the rule has to know about one variable, by name.

        A "learning_rate_multiplier" multiplies its eta; "elementwise" is the class's attribute for this variable, or
        "rows" if each row's step depends on its own gradients.
        """
        return {}

    def gather(self, h, theta, g, *slots):
        """One variable's share in sums over all of them, by name: scalars."""
        return {}

    def settle(self, h, sums, **scalars):
        """The new `scalars` by name, from the sums over all variables and the old ones; the rule reads them from h."""
        raise NotImplementedError(f"{type(self).__name__} has scalars and does not settle them")

    # Build

    def build(self, variables):
        """Makes the slots for the variables that will be trained; a second call with the same ones does nothing."""
        variables = list(variables)
        if self.built:
            if [self._var_key(v) for v in variables] == [self._var_key(v) for v in self._trainable_variables]:
                return
            raise ValueError(
                f"The optimizer is already built with {paths(self._trainable_variables)}; call `extend` to train "
                f"others besides, or make a new optimizer. Received: variables={paths(variables)}"
            )
        before, decided = self.variables, self._decide(variables)
        decisions = zip(variables, decided, strict=True)
        made = [states.new(self, index, *decision) for index, decision in enumerate(decisions)]
        for state in made:
            states.add_kept(self, state)
        if self.gradient_accumulation_steps not in (None, 1):
            self.window_position = self._add_counter("window_position")
            if self.skips_nonfinite:
                self.window_is_spoilt = self._add_counter("window_is_spoilt", dtype="bool")
        if self.skips_nonfinite:
            self.skipped_updates = self._add_counter("skipped_updates")
        self._add_scalars(made)
        self._adopt(made)
        self.built = True
        self._restore_waiting(before)

    def _adopt(self, made):
        """Makes the states those of the optimizer, in this order."""
        variables = [state.variable for state in made]
        # By these names Keras's own methods and SwapEMAWeights find them. Not by setattr, which would track the
        # model's variables as the optimizer's.
        vars(self).update(
            _trainable_variables=variables,
            _trainable_variables_indices={self._var_key(v): i for i, v in enumerate(variables)},
        )
        if self.use_ema:
            vars(self).update(_model_variables_moving_average=[state.kept.get("average") for state in made])
        vars(self).update(plan=step.Plan(self, made))

    def _decide(self, variables):
        """For each variable its group, and whether it is decayed."""
        described = [
            {"path": path(v), "shape": list(v.shape), "group": None, "decays": self._is_decayed(v)} for v in variables
        ]
        if self.cowclip is not None:
            self.cowclip.check(described)
        decided = groups.decide(self.groups or (), described, self._decided)
        vars(self).update(_decided=decided)
        return decided

    def _is_decayed(self, variable):
        return self._use_weight_decay(variable) and path(variable) not in self._excluded["paths"]

    def _add_scalars(self, made):
        """The numbers that the algorithm keeps for all variables together, in the widest dtype of their arithmetic."""
        dtype = "float64" if any(state.compute_dtype == "float64" for state in made) else "float32"
        common = {}
        for scalar in self.scalars:
            initial = getattr(self, scalar.initial) if isinstance(scalar.initial, str) else scalar.initial
            common[scalar.name] = self._add_counter(scalar.name, dtype, states.constant(initial))
        whole = states.Whole(groups.hyperparameters(self, None), dtype)
        vars(self).update(common=common, whole=whole)

    def _add_counter(self, name, dtype="int32", initializer="zeros"):
        return self.add_variable(
            shape=(), dtype=dtype, initializer=initializer, aggregation="only_first_replica", name=name
        )

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Keras's method: variables, or regular expressions of their names, that are not decayed; before build."""
        if self.built:
            raise ValueError(
                "`exclude_from_weight_decay` must be called before the optimizer is built. "
                f"Received: var_list={var_list}, var_names={var_names}"
            )
        super().exclude_from_weight_decay(var_list, var_names)
        vars(self).update(_excluded={"paths": paths(var_list or []), "names": list(var_names or [])})

    def describe(self):
        """A table of the trained variables, which prints well: what was decided for each, and what is kept for it."""
        if not self.built:
            raise ValueError("`describe` needs an optimizer that is built: call `build(variables)` first.")
        return describe.Table.of(self)

    # Apply

    def apply_gradients(self, grads_and_vars):
        """`apply` for pairs of a gradient and its variable; returns `iterations`."""
        pairs = list(grads_and_vars)
        self.apply([gradient for gradient, _ in pairs], [variable for _, variable in pairs])
        return self._iterations

    def apply(self, grads, trainable_variables=None, counts=None):
        """Takes one step, or one micro-batch of it.

        Args:
            grads: list of gradients, dense or (TensorFlow) tf.IndexedSlices; None for a variable without one. Under a
                distribution strategy each replica gives its own, and their sum over the replicas counts.
            trainable_variables: the variables that they belong to; by default those the optimizer was built with, in
                that order. The first call builds the optimizer.
            counts: with `cowclip`, for each variable that it clips and whose gradient is no tf.IndexedSlices, by its
                path: how often each row was looked up in the batch; under a distribution strategy by the replica.

        Raises:
            ValueError: no gradients, a variable that is unknown or given twice, a gradient of another shape than its
                variable's, counts that are missing or do not fit, a call from outside the strategy, or a dynamic loss
                scale that no loss was multiplied by.
                Nothing has changed then.
        """
        grads = list(grads)
        if trainable_variables is None and not self.built:
            raise ValueError("`trainable_variables` must be given until the optimizer is built. Received: None")
        variables = self._trainable_variables if trainable_variables is None else list(trainable_variables)
        gradients.check(grads, variables)
        keys = [self._var_key(variable) for variable in variables]
        if len(set(keys)) != len(keys):
            raise ValueError(f"A variable is given twice. Received: trainable_variables={paths(variables)}")
        backends.check_context(self)
        self._check_loss_is_scaled()
        if not self.built:
            self.build(variables)
        for key, variable in zip(keys, variables, strict=True):
            if key not in self._trainable_variables_indices:
                raise ValueError(
                    f"Unknown variable {path(variable)!r}: the optimizer was built with "
                    f"{paths(self._trainable_variables)}. Call `optimizer.extend(model.trainable_variables)` and "
                    "compile the model again, or make a new optimizer."
                )
        missing = [path(v) for v, g in zip(variables, grads, strict=True) if g is None]
        if missing:
            warnings.warn(
                f"Gradients do not exist for variables {missing} when minimizing the loss. If you are using "
                "`model.compile()`, did you forget to provide a `loss` argument?",
                stacklevel=2,
            )
        by_key = dict(zip(keys, grads, strict=True))
        in_order = [by_key.get(self._var_key(v)) for v in self._trainable_variables]
        gradients.check_lazy(self, in_order)
        step.apply(self, in_order, cowclip.given(self.plan.states, in_order, counts))

    def stateless_apply(self, optimizer_variables, grads, trainable_variables, counts=None):
        """Keras's method, which takes `counts` as `apply` does."""
        if counts is None:
            return super().stateless_apply(optimizer_variables, grads, trainable_variables)
        variables = [*self._trainable_variables, *self.variables]
        given = zip(variables, [*trainable_variables, *optimizer_variables], strict=True)
        with keras.StatelessScope(state_mapping=list(given)) as scope:
            self.apply(grads, counts=counts)
        new = [scope.get_current_value(variable) for variable in variables]
        return new[: len(self._trainable_variables)], new[len(self._trainable_variables) :]

    def update_step(self, gradient, variable, learning_rate):
        """The update of one variable, for callers that do the rest of a step themselves.

        Clips, applies the rule, decays and assigns. It neither unscales, sums over replicas or accumulates, nor counts.
        """
        if self.scalars:
            raise ValueError(
                f"{type(self).__name__} has no update of a single variable, because its step depends on all of them: "
                "call `apply`."
            )
        state = self.plan.states[self._get_variable_index(variable)]
        step.update_one(self, state, gradient, variable, learning_rate)
