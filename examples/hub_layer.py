"""A TensorFlow SavedModel, or a model of TF Hub, as a trainable Keras 3 model. Needs the backend tensorflow.

from hub_layer import SavedModel

backbone = SavedModel("https://tfhub.dev/...")           # or a folder
outputs = keras.layers.Dense(10)(backbone(images))
"""

import inspect
import os

import keras
import tensorflow as tf
from keras.src.saving.serialization_lib import in_safe_mode  # Keras has no public name for it


@keras.saving.register_keras_serializable(package="hub_layer")
class SavedModel(keras.Model):
    """A saved model whose variables are Keras variables, with one layer for each scope in which they were made.

    So its weights can be trained, frozen, saved in .keras files and put into groups (`layerwise_decay`), as in any
    model. Keras 3 refuses `hub.KerasLayer`, and `keras.layers.TFSMLayer` copies the variables, so training does not
    change what it computes with. Under a strategy, make it inside the scope.

    A SavedModel can run any code, for example write files. So a .keras file or a config with this layer is refused, as
    with a `TFSMLayer`, unless the user passes `safe_mode=False` or calls
    `keras.config.enable_unsafe_deserialization()`.

    Args:
        source: a folder, or a handle of TF Hub, which needs tensorflow_hub.
        endpoint: the function or the signature to call. Default: `__call__` if it exists, else "serve" (Keras's name),
            else "serving_default".
        output: the name of the output, if there are several.
        trainable: False freezes it, and calls it in inference mode also during training. Default True.

    Raises:
        ValueError: there is no such function or output, or no trainable variable while `trainable`.
        OSError: the folder has no SavedModel.
    """

    def __init__(self, source, endpoint=None, output=None, trainable=True, name=None):
        # In float32 whatever the policy, because its functions are traced for the dtype with which they were saved.
        super().__init__(name=name, dtype="float32")
        self.source, self.endpoint, self.output_name = os.fspath(source), endpoint, output
        self.loaded = _load(self.source)
        self.function = _function(self.loaded, endpoint, self.source)
        traced = _traced(self.function)[0]
        self.expected = _expected(traced, self.source)
        self._chosen(traced.structured_outputs)  # raises if there is no such output
        self.takes_training = "training" in inspect.signature(self.function).parameters
        variables, trained = _variables(self.loaded, self.function)
        if trainable and not trained:
            raise ValueError(f"`source` must have trainable variables to be trained. Received: {source}, with none")
        scopes: dict[str, list] = {}
        for variable in variables:
            scopes.setdefault(variable.name.rpartition("/")[0], []).append(variable)
        self.scopes = [_Scope(scope, variables, trained) for scope, variables in scopes.items()]
        self.trainable = trainable
        self.built = True

    def call(self, inputs, training=False):
        training = bool(training) and self.trainable
        if self.takes_training:
            outputs = self.function(inputs, training=training)
        elif hasattr(self.function, "structured_input_signature"):
            # Signatures take their arguments only by name.
            outputs = self.function(**{self.expected.name: inputs})
        else:
            outputs = self.function(inputs)
        if training:
            for loss in getattr(self.loaded, "regularization_losses", ()):
                self.add_loss(loss())
        return self._chosen(outputs)

    def _chosen(self, outputs):
        if not isinstance(outputs, dict):
            return outputs
        name = self.output_name or (next(iter(outputs)) if len(outputs) == 1 else None)
        if name not in outputs:
            raise ValueError(f"`output` must be one of {sorted(outputs)}. Received: output={self.output_name!r}")
        return outputs[name]

    def get_config(self):
        return {
            "source": self.source,
            "endpoint": self.endpoint,
            "output": self.output_name,
            "trainable": self.trainable,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None, safe_mode=None):
        safe_mode = in_safe_mode() if safe_mode is None else safe_mode
        if safe_mode is not False:
            raise ValueError(
                "`safe_mode` must be False to load a SavedModel, because it can run any code, write files for one. If "
                "you trust it, load with `keras.models.load_model(..., safe_mode=False)`, or call "
                "`keras.config.enable_unsafe_deserialization()` first. "
                f"Received: source={config.get('source')!r}, safe_mode={safe_mode}"
            )
        return cls(**config)


class _Scope(keras.layers.Layer):
    """Variables of a SavedModel as Keras variables that share their memory."""

    def __init__(self, scope, variables, trained):
        super().__init__(name=scope.replace("/", ".") or "root", dtype="float32")
        for variable in variables:
            name = variable.name.rpartition("/")[2].partition(":")[0]
            with keras.name_scope(self.name, caller=self):
                own = keras.Variable(
                    tf.zeros(variable.shape, variable.dtype),
                    dtype=variable.dtype.name,
                    trainable=variable.ref() in trained,
                    name=name,
                )
            own._value = variable
            self._track_variable(own)
        self.built = True


def _load(source):
    if "://" in source:
        import tensorflow_hub

        return tensorflow_hub.load(source)
    return tf.saved_model.load(source)


def _function(loaded, endpoint, source):
    names = [endpoint] if endpoint else ["__call__", "serve", "serving_default"]
    signatures = getattr(loaded, "signatures", {})
    for name in names:
        function = getattr(loaded, name, None) or signatures.get(name)
        if getattr(function, "concrete_functions", None) or name in signatures:
            return function
    raise ValueError(f"`source` must have a function {' or '.join(names)}. Received: {source}, with {list(signatures)}")


def _traced(function):
    """The concrete functions of a function; a signature is itself a concrete function."""
    return getattr(function, "concrete_functions", [function])


def _expected(traced, source):
    """The TensorSpec of its first argument."""
    positional, named = traced.structured_input_signature
    for each in (*positional, *named.values()):
        if isinstance(each, tf.TensorSpec):
            return each
    raise ValueError(f"`source` must have a function of a tensor. Received: {source}, with {positional} and {named}")


def _variables(loaded, function):
    """All variables of the saved model, and references to the trained ones."""
    captured = {variable.ref(): variable for one in _traced(function) for variable in one.variables}
    listed = list(getattr(loaded, "variables", ())) or list(captured.values())
    trainable = getattr(loaded, "trainable_variables", None)
    trainable = [each for each in listed if each.trainable] if trainable is None else trainable
    return listed, {variable.ref() for variable in trainable if variable.trainable}
