"""DoG: distance over gradients."""

import keras
from keras import ops
from keras.ops import sqrt

from keras_adaptive.core.fields import nonnegative, positive, rate, sole_stabiliser
from keras_adaptive.core.math.numerics import maximum
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import THETA, Scalar, Slot

# Where training began, and the polynomial average of the weights.
START_AND_AVERAGE = (Slot("x_0", initial=THETA, exact=True), Slot("a", initial=THETA, exact=True))


def averaged(h, theta, a):
    """The average after this update."""
    w = (1 + h.average_power) / (h.t + h.average_power)
    return (1 - w) * a + w * theta


@keras.saving.register_keras_serializable(package="keras_adaptive")
class DoG(AdaptiveOptimizer):
    """DoG: SGD whose step is the largest distance from the start over the root of the sum of squared gradients.

        g_t = the gradient + lambda theta_{t-1}
        r_t = max(r_{t-1}, ||theta_{t-1} - x_0||)                             r_0 = reps_rel (1 + ||x_0||)
        G_t = G_{t-1} + ||g_t||^2                                             G_0 = epsilon, x_0 = theta_0
        theta_t = theta_{t-1} - eta_t r_t / sqrt(G_t) g_t
        w_t = (1 + average_power) / (t + average_power)
        a_t = (1 - w_t) a_{t-1} + w_t theta_t                                 a_0 = theta_0

    Norms are over all variables; the step size is one number for all of them. The weight decay lambda is an L2 penalty,
    part of the rule.

    Slots: x_0 and a, of the variable's shape and always in the dtype of the arithmetic. For all variables together the
    numbers r and G.

    Defaults: all are the authors' code's, which has the average in a class of its own.

    Start with: a learning rate of 1.0 without a schedule, and a reps_rel of 1e-6, or 1e-4 with batch normalization (the
    authors' repository).

    Pitfalls:

    - Evaluate and use the model at the average a. `fit` sets the weights to a after its last epoch. The callback
      `EvaluationWeights` does so for every validation, and for what is saved at the end of an epoch. After a loop of
      your own, call `optimizer.finalize_variable_values(model.trainable_variables)`. If training goes on after that, it
      starts from the average, with x_0, r and G unchanged.
    - If the loss diverges early, divide reps_rel by 100. If r, `optimizer.common["r"]`, does not rise within a few
      hundred updates, multiply it by 100 (the authors' repository).
    - It is SGD without momentum, and with one step size for all layers. Where Adam is needed, take `Prodigy`.

    Differs from:

    - `optax.contrib.dog`: the same steps, without the average.
    - The authors' code: also has a form with a step size for each layer, LDoG, which is not here.
    - `DoWG`: weights the squared gradients by the distance at their time. `DAdaptAdam` and `Prodigy`: estimate Adam's
      learning rate.

    Source: Ivgi, Hinder and Carmon, DoG is SGD's Best Friend, ICML 2023, arXiv:2302.12022.

    Example:

    >>> optimizer = DoG(reps_rel=0.25)
    >>> theta = keras.Variable([3.0, 4.0])
    >>> optimizer.apply([keras.ops.convert_to_tensor([0.0, 2.0])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta), float(optimizer.common["r"]))
    [3.  2.5] 1.5
    """

    learning_rate = rate(1.0, "The paper calls it c")
    reps_rel = positive(
        1e-06,
        "first distance, in units of 1 + ||x_0||; the paper takes 1e-4 for models with batch normalization",
    )
    epsilon = sole_stabiliser(1e-08, "initial value of the sum of squared gradients")
    average_power = nonnegative(8.0, "how strongly the average favours later weights; with 0 it is their mean")
    slots = START_AND_AVERAGE
    scalars = (Scalar("r", nonnegative=True), Scalar("G", "epsilon", nonnegative=True))
    common_hyperparameters = ("reps_rel", "epsilon")
    decay = "rule"
    evaluation_slot = "a"

    def local_sums(self, h, theta, g, x_0, a):
        g = g + h.weight_decay * theta
        return {
            "square of x_0": ops.sum(x_0 * x_0),
            "square of the distance": ops.sum((theta - x_0) * (theta - x_0)),
            "square of g": ops.sum(g * g),
        }

    def update_scalars(self, h, sums, r, G):
        r_0 = h.reps_rel * (1 + sqrt(sums["square of x_0"]))
        r = maximum(ops.where(ops.equal(h.t, 1), r_0, r), sqrt(sums["square of the distance"]))
        return {"r": r, "G": G + sums["square of g"]}

    def rule(self, h, theta, g, x_0, a):
        g = g + h.weight_decay * theta
        delta = h.eta * h.r / sqrt(h.G) * g
        return delta, (x_0, averaged(h, theta - delta, a))
