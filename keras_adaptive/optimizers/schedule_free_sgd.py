"""Schedule-Free SGD."""

import keras

from keras_adaptive.core.fields import fraction, natural, nonnegative, rate
from keras_adaptive.optimizers._schedule_free import AVERAGING, ScheduleFree


@keras.saving.register_keras_serializable(package="keras_adaptive")
class ScheduleFreeSGD(ScheduleFree):
    """Schedule-Free SGD: an average of the weights in place of a schedule that goes down.

        gamma_t = eta_t min(1, t / warmup_steps)
        gamma_max_t = max(gamma_max_{t-1}, gamma_t)                           gamma_max_0 = 0
        w_t = t^r gamma_max_t^weight_power
        W_t = W_{t-1} + w_t                                                   W_0 = 0
        c_t = w_t / W_t,  0 while W_t is 0
        z_t = z_{t-1} - gamma_t (g_t + lambda theta_{t-1})                    z_0 = theta_0
        x_t = (1 - c_t) x_{t-1} + c_t z_t                                     x_0 = theta_0
        y_t = (1 - beta) z_t + beta x_t
        theta_t = theta_{t-1} - (theta_{t-1} - y_t), which is y_t

    The gradient is taken at y, which the model holds during training. Evaluate and use the model at x:

    - `fit` sets the weights to x after its last epoch.
    - The callback `EvaluationWeights` does so for every validation, and for what is saved at the end of an epoch.
    - After a loop of your own, or for a file that was written in the middle of an epoch, call
      `optimizer.finalize_variable_values(model.trainable_variables)`.

    Training may go on from there. z and x are stored apart from the weights, so the next update brings y back, and only
    its gradient is taken at x. With the callback even that gradient is taken at y. The weight decay lambda is part of
    the rule and acts at y.

    Slots: z and x of the variable's shape, x always in the dtype of the arithmetic; W and gamma_max, two numbers.
    Together they take 8 bytes per parameter. The paper stores 4 and computes x from y and z, which loses x where y is
    bfloat16.

    Defaults: all are those of the authors' code.

    Start with: a learning rate 10 to 50 times that of SGD with a schedule (the authors' README), such as 1 to 5 in
    place of 0.1, constant after a warm-up.

    Pitfalls:

    - Validation, files and predictions need x, as above.
    - Batch normalization collects its moving statistics at y. Before an evaluation set the weights to x and run some 50
      batches with `training=True` (the authors' README).
    - Weights that you assign during training last only until the next update, since z and x are stored apart from them.
    - It is more sensitive to beta than SGD to momentum: for very long runs the authors advise 0.95 or 0.98.

    Differs from:

    - Keras and torch have no Schedule-Free SGD.
    - `schedulefree.SGDScheduleFree`: the same numbers, with `optimizer.train()` and `optimizer.eval()` to change
      between y and x.
    - `optax.contrib.schedule_free_sgd`: the same numbers without a warm-up. With one its first learning rate is 0.
    - `SGD`: has momentum and needs a schedule. `ScheduleFreeAdamW`: divides the gradient as Adam does.

    Source: Defazio, Yang, Mehta, Mishchenko, Khaled and Cutkosky, The Road Less Scheduled, NeurIPS 2024,
    arXiv:2405.15682.

    Example:

    >>> optimizer = ScheduleFreeSGD(learning_rate=0.5, beta=0.75)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> for _ in range(2):
    ...     optimizer.apply([keras.ops.ones(2)], [theta])
    >>> print(keras.ops.convert_to_numpy(theta), optimizer.evaluation_weights()[theta.path])
    [0.1875 1.1875] [0.25 1.25]
    """

    learning_rate = rate(1.0)
    beta = fraction(0.9, "weight of x in y")
    warmup_steps = natural(0, "number of updates over which gamma rises to eta")
    weight_power = nonnegative(2.0, "power of gamma_max in the weights of the average")
    r = nonnegative(0.0, "power of t in the weights of the average")
    slots = AVERAGING

    def between(self, h, z, x):
        return (1 - h.beta) * z + h.beta * x

    def rule(self, h, theta, g, z, x, W, gamma_max):
        return self.average(h, theta, g, z, x, W, gamma_max)
