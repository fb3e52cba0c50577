"""The options of every optimizer: what they may be, how they are set, saved and read again."""

from collections.abc import Mapping
from typing import Any, ClassVar

import keras
from keras import ops

from keras_adaptive.core import checks, cowclip, groups
from keras_adaptive.core.codecs import CODECS

# What every optimizer takes besides its own hyperparameters: Keras's options, and those that Keras does not have.
KERAS_OPTIONS: dict[str, checks.Check] = {
    "weight_decay": checks.optional(checks.number_or_schedule),
    "clipnorm": checks.optional(checks.positive),
    "global_clipnorm": checks.optional(checks.positive),
    "clipvalue": checks.optional(checks.positive),
    "use_ema": checks.flag,
    "ema_momentum": checks.fraction,
    "ema_overwrite_frequency": checks.optional(checks.count),
    "loss_scale_factor": checks.optional(checks.loss_scale),
    "gradient_accumulation_steps": checks.optional(checks.count),
    "name": checks.optional(checks.text),
}
OWN_OPTIONS: dict[str, tuple[checks.Check, Any]] = {
    "groups": (checks.list_of(groups.Group), None),
    "cowclip": (checks.optional(checks.instance(cowclip.CowClip)), None),
    "cautious": (checks.flag, False),
    "weight_decay_mode": (checks.one_of("decoupled", "coupled", "independent"), "decoupled"),
    "skip_nonfinite": (checks.flag, False),
    "sparse": (checks.one_of("exact", "lazy"), "exact"),
    "jit_update": (checks.auto_or(checks.flag), "auto"),
    "slot_dtype": (checks.one_of(*CODECS), "float32"),
    "stochastic_rounding": (checks.flag, False),
    "seed": (checks.natural, 0),
    "monitor": (checks.flag, False),
    "shard_state": (checks.flag, False),
}
OPTIONS = KERAS_OPTIONS | {name: check for name, (check, _) in OWN_OPTIONS.items()}


class Configured:
    """The part of an optimizer that is about its arguments."""

    hyperparameters: ClassVar[Mapping[str, checks.Check]] = {}

    def _sorted_out(self, given: Mapping[str, Any]):
        """The options that Keras does not have, those that it has, and the steps of accumulation; all checked."""
        unknown = sorted(set(given) - set(OPTIONS))
        if unknown:
            accepted = ["learning_rate", *self.hyperparameters, *OPTIONS]
            raise TypeError(
                f"{type(self).__name__} has no argument `{unknown[0]}`; it accepts {accepted}. "
                f"Received: {unknown[0]}={given[unknown[0]]!r}"
            )
        options = {name: OPTIONS[name](name, value) for name, value in given.items()}
        own = {name: options.pop(name, default) for name, (_, default) in OWN_OPTIONS.items()}
        accumulation_steps = options.pop("gradient_accumulation_steps", None)
        if options.get("ema_overwrite_frequency") is not None and not options.get("use_ema"):
            raise ValueError(
                "`ema_overwrite_frequency` must be None unless use_ema=True. "
                f"Received: ema_overwrite_frequency={options['ema_overwrite_frequency']}, use_ema=False"
            )
        return own, options, accumulation_steps

    # Setting an attribute: checked as in the constructor, and refused once it could no longer take effect.

    def __setattr__(self, name, value):
        check = OPTIONS.get(name) or self.hyperparameters.get(name)
        if check is None:
            return super().__setattr__(name, value)
        value, old = check(name, value), self.__dict__.get(name)
        if name == "loss_scale_factor":
            self._check_new_loss_scale(value)
        if self.__dict__.get("built") and value != old:
            raise ValueError(
                f"`{name}` cannot change after the optimizer is built, because compiled updates hold its value "
                f"{old!r}; make a new optimizer. Received: {name}={value!r}"
            )
        super().__setattr__(name, value)
        if "plan" in vars(self):
            try:
                self._check_combinations()
            except (ValueError, TypeError):
                super().__setattr__(name, old)
                raise

    def _check_combinations(self):
        self._check_decay()
        self._check_evaluation()
        for group in (None, *(self.groups or ())):
            self.check_together(**groups.hyperparameters(self, group))

    def _check_decay(self):
        if self.decay == "rule" and self.weight_decay_mode != "decoupled":
            raise ValueError(
                f"`weight_decay_mode` must be 'decoupled' for {type(self).__name__}, whose rule has its own place for "
                f"weight decay. Received: weight_decay_mode={self.weight_decay_mode!r}"
            )

    def check_together(self, **hyperparameters):
        """Raises for hyperparameters that are right one by one and wrong together; a group's are checked too."""

    @property
    def learning_rate(self):
        """The learning rate of the next update; set it at any time to a real number, a schedule or a callable."""
        return self._get_current_learning_rate()

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        keras.optimizers.Optimizer.learning_rate.fset(self, checks.learning_rate("learning_rate", learning_rate))

    def get_config(self):
        """All arguments, for `from_config`, and what was decided by them for the variables."""
        config = super().get_config()
        if isinstance(self._learning_rate, keras.Variable):
            # The shortest number that is stored as this value: 0.001, not 0.0010000000474974513.
            config["learning_rate"] = float(str(ops.convert_to_numpy(self._learning_rate)))
        config |= {name: getattr(self, name) for name in [*self.hyperparameters, *OWN_OPTIONS]}
        config["weight_decay"] = groups.serialized(self.weight_decay)
        if self.groups is not None:
            config["groups"] = [keras.saving.serialize_keras_object(group) for group in self.groups]
        if self.cowclip is not None:
            config["cowclip"] = keras.saving.serialize_keras_object(self.cowclip)
        decided = self._decided if self.groups or any(self._excluded.values()) else None
        return config | {"excluded_from_weight_decay": self._excluded, "decided": decided}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The optimizer with these arguments; for variables that were decided on before, that decision stands."""
        config = dict(config)
        excluded, decided = config.pop("excluded_from_weight_decay", None), config.pop("decided", None)
        for name in ("groups", "weight_decay", "cowclip"):
            if config.get(name) is not None:
                config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
        optimizer = super().from_config(config, custom_objects=custom_objects)
        if excluded is not None:
            optimizer.exclude_from_weight_decay(var_names=excluded["names"])
            vars(optimizer).update(_excluded=excluded)
        vars(optimizer).update(_decided=decided)
        return optimizer
