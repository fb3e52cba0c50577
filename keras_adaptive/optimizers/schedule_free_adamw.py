"""Schedule-Free AdamW."""

import keras
from keras.ops import sqrt

from keras_adaptive.core.fields import KW_ONLY, fraction, natural, nonnegative, rate, sole_stabiliser
from keras_adaptive.core.state.slots import Slot
from keras_adaptive.optimizers._schedule_free import AVERAGING, ScheduleFree


@keras.saving.register_keras_serializable(package="keras_adaptive")
class ScheduleFreeAdamW(ScheduleFree):
    """Schedule-Free AdamW: Adam's steps with an average of the weights in place of momentum and schedule.

        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t                           v_0 = 0
        d_t = g_t / (sqrt(v_t / (1 - beta_2^t)) + epsilon)
        gamma_t = eta_t min(1, t / warmup_steps)
        gamma_max_t = max(gamma_max_{t-1}, gamma_t)                           gamma_max_0 = 0
        w_t = t^r gamma_max_t^weight_power
        W_t = W_{t-1} + w_t                                                   W_0 = 0
        c_t = w_t / W_t,  0 while W_t is 0
        z_t = z_{t-1} - gamma_t (d_t + lambda theta_{t-1})                    z_0 = theta_0
        x_t = (1 - c_t) x_{t-1} + c_t z_t                                     x_0 = theta_0
        y_t = (1 - beta_1) z_t + beta_1 x_t
        theta_t = theta_{t-1} - (theta_{t-1} - y_t), which is y_t

    The gradient is taken at y, which the model holds during training. Evaluate and use the model at x:
    `ScheduleFreeSGD` says how and when the weights are set to x, and how training goes on from there. The weight decay
    lambda is part of the rule and acts at y.

    Slots: z, x and v of the variable's shape, x always in the dtype of the arithmetic; W and gamma_max, two numbers.
    Together they take 12 bytes per parameter. The paper stores 8 and computes x from y and z, which loses x where y is
    bfloat16.

    Defaults: all are those of the authors' code.

    Start with: a learning rate 1 to 10 times that of AdamW (the authors' README), so 1e-3 to 1e-2, constant after a
    warm-up of about 2 % of the updates. The authors' five settings for AlgoPerf have 1e-3 to 5e-3, a weight_decay of
    0.08 and mostly a beta_2 of 0.9955. Small models take more.

    Pitfalls:

    - Validation, files and predictions need x: give `fit` the callback `EvaluationWeights`.
    - Batch normalization collects its moving statistics at y. Before an evaluation set the weights to x and run some 50
      batches with `training=True` (the authors' README).
    - It needs no decay of eta, but a warm-up is advised: warmup_steps. Learning rate and weight decay must still be
      tuned.
    - It is more sensitive to beta_1 than AdamW: for very long runs the authors advise 0.95 or 0.98. In long runs a
      beta_2 of 0.9999 was best in Semenov et al. (2025).

    Differs from:

    - `keras.optimizers.ScheduleFreeAdamW`: another algorithm. It averages with weights 1 / t whatever eta is, decays y
      outside of the rule, and cannot return x. On TensorFlow and torch its numbers differ even without warm-up and
      decay.
    - `schedulefree.AdamWScheduleFree`: the same numbers, with `optimizer.train()` and `optimizer.eval()` to change
      between y and x.
    - `optax.contrib.schedule_free_adamw`: the same numbers without a warm-up. With one its first learning rate is 0.
    - `AdamW`: has momentum and needs a schedule. `ScheduleFreeSGD`: g_t in place of d_t.

    Source: Defazio, Yang, Mehta, Mishchenko, Khaled and Cutkosky, The Road Less Scheduled, NeurIPS 2024,
    arXiv:2405.15682.

    Example:

    >>> optimizer = ScheduleFreeAdamW(learning_rate=0.5, beta_1=0.75)
    >>> theta = keras.Variable([1.0, 2.0])
    >>> for _ in range(2):
    ...     optimizer.apply([keras.ops.convert_to_tensor([4.0, -0.25])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4), optimizer.evaluation_weights()[theta.path].round(4))
    [0.1875 2.8125] [0.25 2.75]
    """

    learning_rate = rate(0.0025)
    beta_1 = fraction(0.9, "weight of x in y")
    beta_2 = fraction(0.999, "decay rate of the moving average of the squared gradient")
    epsilon = sole_stabiliser(1e-08, "stabiliser outside of the root, in units of the gradient")
    warmup_steps = natural(0, "number of updates over which gamma rises to eta")
    _ = KW_ONLY
    weight_power = nonnegative(2.0, "power of gamma_max in the weights of the average")
    r = nonnegative(0.0, "power of t in the weights of the average")
    slots = (*AVERAGING, Slot("v", nonnegative=True))

    def between(self, h, z, x):
        return (1 - h.beta_1) * z + h.beta_1 * x

    def rule(self, h, theta, g, z, x, W, gamma_max, v):
        v = h.beta_2 * v + (1 - h.beta_2) * g * g
        d = g / (sqrt(v / h.debias(h.beta_2)) + h.epsilon)
        delta, averaged = self.average(h, theta, d, z, x, W, gamma_max)
        return delta, (*averaged, v)
