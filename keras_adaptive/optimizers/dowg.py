"""DoWG: distance over weighted gradients."""

import keras
from keras import ops
from keras.ops import sqrt

from keras_adaptive.core.fields import nonnegative, positive, rate, sole_stabiliser
from keras_adaptive.core.math.numerics import constant, maximum
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Scalar
from keras_adaptive.optimizers.dog import START_AND_AVERAGE, averaged


@keras.saving.register_keras_serializable(package="keras_adaptive")
class DoWG(AdaptiveOptimizer):
    """DoWG: as DoG, with every squared gradient weighted by the squared distance at its time.

        g_t = the gradient + lambda theta_{t-1}
        R_t = max(R_{t-1}, ||theta_{t-1} - x_0||^2)                           R_0 = initial_distance^2 or epsilon
        V_t = V_{t-1} + R_t ||g_t||^2                                         V_0 = 0, x_0 = theta_0
        theta_t = theta_{t-1} - eta_t R_t / (sqrt(V_t) + epsilon) g_t
        w_t = (1 + average_power) / (t + average_power)
        a_t = (1 - w_t) a_{t-1} + w_t theta_t                                 a_0 = theta_0

    Norms are over all variables. R is the squared distance. Without an initial_distance it begins at epsilon. The
    weight decay lambda is an L2 penalty, part of the rule.

    Slots: x_0 and a, of the variable's shape and always in the dtype of the arithmetic. For all variables together the
    numbers R and V.

    Defaults: epsilon is the authors' code's, and so is a first squared distance of epsilon, 0.01^2. The learning rate
    is 1 since the paper has none. The average and its power are those of `DoG`.

    Start with: a learning rate of 1.0 without a schedule, and the default distance, the authors' code's.

    Pitfalls:

    - Evaluate and use the model at the average a; `DoG` says how to set the weights to a, and how training goes on.
    - The first step has a length of about initial_distance, 0.01 over all weights, whatever their size. Too small a
      distance only delays; too large a one can ruin trained weights, so for fine-tuning take a smaller one.
    - epsilon stands beside sqrt(V). While the norm of all gradients together is below about 0.01, it shortens the first
      steps.
    - It is SGD without momentum, and with one step size for all layers.

    Differs from:

    - The authors' code: has neither the average nor a weight decay; the steps are the same.
    - `optax.contrib.dowg`: the same steps, without the average; its init_estim_sq_dist is initial_distance^2.
    - `DoG`: sums the squared gradients without weights, and begins at a distance relative to the weights' norm.

    Source: Khaled, Mishchenko and Jin, DoWG Unleashed, NeurIPS 2023, arXiv:2305.16284.

    Example:

    >>> optimizer = DoWG(initial_distance=0.5)
    >>> theta = keras.Variable([3.0, 4.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([0.0, 2.0])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(3), float(optimizer.common["R"]))
    [3.  3.5] 0.25
    """

    learning_rate = rate(1.0)
    initial_distance = positive(None, "first distance, in units of the weights; None: sqrt(epsilon)")
    epsilon = sole_stabiliser(0.0001, "stabiliser outside of the root, in units of a distance times a gradient")
    average_power = nonnegative(8.0, "how strongly the average favours later weights; with 0 it is their mean")
    slots = START_AND_AVERAGE
    scalars = (Scalar("R", nonnegative=True), Scalar("V", nonnegative=True))
    common_hyperparameters = ("initial_distance", "epsilon")
    decay = "rule"
    evaluation_slot = "a"

    def local_sums(self, h, theta, g, x_0, a):
        g = g + h.weight_decay * theta
        return {
            "square of the distance": ops.sum((theta - x_0) * (theta - x_0)),
            "square of g": ops.sum(g * g),
        }

    def update_scalars(self, h, sums, R, V):
        R_0 = h.epsilon if h.initial_distance is None else h.initial_distance**2
        R = maximum(ops.where(ops.equal(h.t, 1), constant(R_0, R.dtype), R), sums["square of the distance"])
        return {"R": R, "V": V + R * sums["square of g"]}

    def rule(self, h, theta, g, x_0, a):
        g = g + h.weight_decay * theta
        delta = h.eta * h.R / (sqrt(h.V) + h.epsilon) * g
        return delta, (x_0, averaged(h, theta - delta, a))
