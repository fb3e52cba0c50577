"""The step of a custom training loop: the gradients of a loss, and `optimizer.apply`.

For examples that cannot use `fit`. The step is the same on TensorFlow, JAX and torch, on one device or many:

    with devices.scope:
        model, optimizer = ...
        step = loop.Step(model, optimizer, losses, devices)
    for inputs, targets in batches:
        loss = step(inputs, targets)
"""

import functools

import keras
from keras import ops


class Step:
    """`step(inputs, *targets)` trains the model on one batch and returns the mean loss, as a tensor.

    Make it in the scope of the devices; the calls may be outside.
    After every step the variables of Keras hold the new state. So an assignment to them takes effect at the next step,
    also `optimizer.learning_rate = 0.1`, and nothing is compiled again.

    Args:
        model: a built model, called with `inputs`: an array, or a structure of arrays.
        optimizer: of Keras or of keras_adaptive.
        losses: `losses(outputs, *targets)` returns the loss of every example of the batch, without the losses that
            layers add (regularization).
        devices: the result of `strategies.start`. The replicas share a batch in equal parts.
    """

    def __init__(self, model, optimizer, losses, devices):
        self.model, self.optimizer, self.losses, self.devices = model, optimizer, losses, devices
        optimizer.build(model.trainable_variables)
        self._first_state = [ops.convert_to_numpy(variable) for variable in optimizer.variables]
        make = {"tensorflow": self._on_tensorflow, "jax": self._on_jax, "torch": self._on_torch}
        self._step = make[keras.backend.backend()]()

    def __call__(self, *batch):
        return self._step(batch)

    def restart(self, seed):
        """Starts again: with new initial weights from this seed, and the optimizer's first state."""
        keras.utils.set_random_seed(seed)
        self.model.set_weights(keras.models.clone_model(self.model).get_weights())
        for variable, value in zip(self.optimizer.variables, self._first_state, strict=True):
            variable.assign(value)

    def _on_tensorflow(self):
        """Each replica takes its part of the batch; `apply` sums the gradients over the replicas."""
        import tensorflow as tf

        variables, replicas = self.model.trainable_variables, self.devices.replicas
        strategy = tf.distribute.get_strategy()

        def on_one(batch):
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            examples = keras.tree.flatten(batch)[0].shape[0]
            part = keras.tree.map_structure(
                lambda values: tf.reshape(values, (replicas, examples // replicas, *values.shape[1:]))[replica], batch
            )
            with tf.GradientTape() as tape:
                outputs = self.model(part[0], training=True)
                loss = ops.sum(self.losses(outputs, *part[1:])) / examples
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            self.optimizer.apply(gradients, variables)
            return loss

        @tf.function
        def on_all(batch):
            return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(on_one, args=(batch,)), axis=None)

        return lambda batch: on_all(keras.tree.map_structure(tf.convert_to_tensor, batch))

    def _on_jax(self):
        """One program for all devices, which takes the state and returns the new state."""
        import jax

        distribution = keras.distribution.distribution()
        model, optimizer = self.model, self.optimizer
        state = [model.trainable_variables, model.non_trainable_variables, optimizer.variables]

        def mean_loss(trainable, others, batch):
            outputs, others = model.stateless_call(trainable, others, batch[0], training=True)
            return ops.mean(self.losses(outputs, *batch[1:])), others

        @functools.partial(jax.jit, donate_argnums=0)  # Colab's JAX 0.7.2 has no jit(donate_argnums=0)
        def on_all(values, batch):
            trainable, others, slots = values
            (loss, others), gradients = jax.value_and_grad(mean_loss, has_aux=True)(trainable, others, batch)
            trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
            return loss, [trainable, others, slots]

        def divided(values):
            if distribution is None:
                return values
            return keras.distribution.distribute_tensor(values, distribution.get_data_layout(values.shape))

        def step(batch):
            values = [[variable.value for variable in group] for group in state]
            loss, values = on_all(values, keras.tree.map_structure(divided, batch))
            keras.tree.map_structure(lambda variable, value: variable.assign(value), state, values)
            return loss

        return step

    def _on_torch(self):
        """Eagerly, on one device."""
        import torch

        variables = self.model.trainable_variables

        def step(batch):
            inputs, *targets = keras.tree.map_structure(ops.convert_to_tensor, batch)
            loss = ops.mean(self.losses(self.model(inputs, training=True), *targets))
            gradients = torch.autograd.grad(loss, [variable.value for variable in variables])
            with torch.no_grad():
                self.optimizer.apply(list(gradients), variables)
            return loss.detach()

        return step
