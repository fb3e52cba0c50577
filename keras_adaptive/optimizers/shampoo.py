"""Shampoo."""

import math

import keras
from keras import ops
from keras.ops import sqrt

from keras_adaptive import matrices
from keras_adaptive.core import checks
from keras_adaptive.core.numerics import debias
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.slots import Slot

# The five of AlgoPerf: peak learning rate, 1 - beta_1, 1 - beta_2, weight decay, the part of the training that is
# warm-up, and what else is not the same in all.
PUBLISHED = {
    1: (0.00174864, 0.0673393, 0.00448403, 0.0812162, 0.02, {"nesterov": True}),
    2: (0.00143817, 0.0253375, 0.0250802, 1.97e-4, 0.05, {"nesterov": True}),
    3: (4.19945, 1.0, 0.00237017, 6.40e-5, 0.02, {"graft": "sgd", "momentum": 0.9685}),
    4: (0.0012, 0.0166107, 0.00588822, 4.03e-4, 0.02, {"nesterov": True, "root": 2, "momentum": 0.5}),
    5: (0.00130821, 0.0268666, 0.00187671, 0.163753, 0.1, {"nesterov": True}),
}


def _packed(shape, h):
    blocks = h["blocks"]
    return None if blocks is None else matrices.packed_shape(blocks.count, blocks.block)


@keras.saving.register_keras_serializable(package="keras_adaptive")
class Shampoo(AdaptiveOptimizer):
    """Shampoo, in the distributed form: every axis of every block is multiplied by an inverse root of its factor.

        For each axis of each block of at most block_size along it, G the block of g_t with that axis as its rows:
        H_t = beta_2 H_{t-1} + (1 - beta_2) G G^T;  H_{t-1} + G G^T if beta_2 is 1                  H_0 = 0
        P_t = (H_t / (1 - beta_2^t) + epsilon I)^(-1/root)  if t is start or a later multiple of frequency, else P_{t-1}
        P_0 = 0;  root (None) is twice the number of axes,  start (None) is frequency
        M_t = (beta_3 m_{t-1} + (1 - beta_3) g_t) / (1 - beta_3 beta_1^(t-1))
        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                                                     m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t;  v_{t-1} + g_t g_t if beta_2 is 1              v_0 = 0
        p_t = M_t / (sqrt(v_t / (1 - beta_2^t)) + graft_epsilon) with graft "adam", else M_t
        U_t = M_t with every axis multiplied by P_t, and then by norm(p_t) / (norm(U_t) + 1e-16) of the block if graft
        b_t = momentum b_{t-1} + (p_t while P_t is 0, then U_t)                                     b_0 = 0
        theta_t = theta_{t-1} - eta_t b_t
        beta_3 (None) is beta_1, or beta_1^2 with nesterov; with merge_axes, neighbouring axes count as one

    If beta_2 is 1 nothing is divided by 1 - beta_2^t. The original is `Shampoo(beta_1=0.0, beta_2=1.0, epsilon=1e-4,
    frequency=1, graft=None)`, up to blocks. The factors of small axes are small, so by default none are merged; the
    distributed implementation does merge_axes, and so do the settings of `preset`.

    Args:
        learning_rate: eta: a real number of at least 0, a LearningRateSchedule or a callable. Default 0.001.
        beta_1: weight of the last average of the gradient, in [0, 1). Default 0.9.
        beta_2: weight of the last average of the factors and squares, above 0 and at most 1; 1 sums. Default 0.999.
        beta_3: weight of the average in the step's mixture with the gradient, in [0, 1), 0 without beta_1, or None for
            beta_1 or its square. Default None.
        epsilon: stabiliser of the factors, above 0, in units of the squared gradient. Default 1e-12.
        frequency: after how many updates the roots are renewed, at least 1. Default 100.
        start: number of the first update with roots, at least 1, or None for frequency. Default None.
        block_size: how long a block is at most along an axis, at least 1. Default 1024.
        graft: "adam" or "sgd", whose step gives that of each block its length, or None. Default "adam".
        graft_epsilon: stabiliser of Adam's step, outside of the root, above 0, in units of the gradient. Default 1e-08.
        nesterov: Nadam's mixture with the gradient. Default False.
        momentum: weight of the last velocity, in [0, 1). Default 0.0, which keeps no slot.
        root: which root is taken of every factor, at least 1, or None for 2 times the number of axes. Default None.
        merge_axes: leave out axes of length 1 and make neighbours one axis that are not longer than block_size
            together. Default False.
        **options: Keras's own arguments and `skip_nonfinite`: see `AdaptiveOptimizer`.

    Slots: H and P, the factors and roots of all axes and blocks in one vector; m if beta_1; v with graft "adam"; b with
    momentum, each of the variable's shape.

    Raises:
        ValueError, TypeError: for an argument out of range, of the wrong kind or unknown.

    Source: Gupta, Koren and Singer, ICML 2018; distributed: Anil et al., arXiv 2002.09018, 2020, and Shi et al., arXiv
    2309.06497, 2023.

    Example:

    >>> optimizer = Shampoo(0.5, beta_1=0.0, beta_2=1.0, epsilon=1e-8, frequency=1, graft=None)
    >>> theta = keras.Variable([[1.0, 0.0], [0.0, 1.0]])
    >>> optimizer.apply([keras.ops.convert_to_tensor([[4.0, 0.0], [0.0, -0.25]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[0.5 0. ]
     [0.  1.5]]
    """

    hyperparameters = {
        "beta_1": checks.fraction,
        "beta_2": checks.rate,
        "beta_3": checks.optional(checks.fraction),
        "epsilon": checks.sole_stabiliser,
        "frequency": checks.count,
        "start": checks.optional(checks.count),
        "block_size": checks.count,
        "graft": checks.optional(checks.one_of("adam", "sgd")),
        "graft_epsilon": checks.sole_stabiliser,
        "nesterov": checks.flag,
        "momentum": checks.fraction,
        "root": checks.optional(checks.count),
        "merge_axes": checks.flag,
    }
    slots = (
        Slot("H", shape=_packed),
        Slot("P", shape=_packed),
        Slot("m", when="beta_1"),
        Slot("v", when="grafts_adam", nonnegative=True),
        Slot("b", when="momentum"),
    )

    def __init__(
        self,
        learning_rate=0.001,
        beta_1=0.9,
        beta_2=0.999,
        beta_3=None,
        epsilon=1e-12,
        frequency=100,
        start=None,
        block_size=1024,
        graft="adam",
        graft_epsilon=1e-8,
        nesterov=False,
        momentum=0.0,
        root=None,
        merge_axes=False,
        **options,
    ):
        super().__init__(
            learning_rate,
            options,
            beta_1=beta_1,
            beta_2=beta_2,
            beta_3=beta_3,
            epsilon=epsilon,
            frequency=frequency,
            start=start,
            block_size=block_size,
            graft=graft,
            graft_epsilon=graft_epsilon,
            nesterov=nesterov,
            momentum=momentum,
            root=root,
            merge_axes=merge_axes,
        )

    @classmethod
    def preset(cls, number, steps=None, **options):
        """One of the five settings that won AlgoPerf's external tuning.

        Args:
            number: of the setting, from 1 to 5.
            steps: how many updates the training has, for the warm-up and a cosine decay to 0; None for a learning rate
                that is constant. Default None.
            **options: other arguments of the class, which replace those of the setting.

        Raises:
            ValueError, TypeError: for a number or steps out of range, or an argument that the class refuses.
        """
        if number not in PUBLISHED:
            raise ValueError(f"`number` must be one of {list(PUBLISHED)}. Received: number={number!r}")
        eta, rest_1, rest_2, weight_decay, warmup, others = PUBLISHED[number]
        if steps is not None:
            steps = checks.count("steps", steps)
            rising = round(warmup * steps)
            eta = keras.optimizers.schedules.CosineDecay(
                0.0, max(1, steps - rising), warmup_target=eta, warmup_steps=rising
            )
        setting = {
            "learning_rate": eta,
            "beta_1": 1.0 - rest_1,
            "beta_2": 1.0 - rest_2,
            "weight_decay": weight_decay,
            "epsilon": 1e-8,
            "merge_axes": True,
            **others,
        }
        return cls(**(setting | options))

    def check_together(self, beta_1, beta_3, **others):
        if beta_1 == 0.0 and beta_3:
            raise ValueError(
                f"`beta_3` must be None or 0 if beta_1 is 0. Received: beta_3={beta_3!r}, beta_1={beta_1!r}"
            )

    def about(self, path, shape, hyperparameters):
        h = hyperparameters
        blocks = matrices.Blocks(shape, h["block_size"], h["merge_axes"]) if math.prod(shape) else None
        beta_3 = h["beta_1"] ** (2 if h["nesterov"] else 1) if h["beta_3"] is None else h["beta_3"]
        return {
            "blocks": blocks,
            "beta_3": beta_3,
            "start": h["frequency"] if h["start"] is None else h["start"],
            "root": 2 * blocks.order if blocks and h["root"] is None else h["root"],
            "grafts_adam": h["graft"] == "adam",
        }

    def rule(self, h, theta, g, H, P, m, v, b):
        def gathered(old, new):
            return old + new if h.beta_2 == 1.0 else h.beta_2 * old + (1 - h.beta_2) * new

        def unbiased(average):
            return average if h.beta_2 == 1.0 else average / h.debias(h.beta_2)

        M = (h.beta_3 * m + (1 - h.beta_3) * g) / (1 - h.beta_3 + h.beta_3 * debias(h.beta_1, h.t - 1))
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = gathered(v, g * g)
        p = M / (sqrt(unbiased(v)) + h.graft_epsilon) if h.grafts_adam else M
        U = p
        if h.blocks is not None:
            U, H, P = self.preconditioned(h, g, M, p, H, P, gathered, unbiased)
            # Of a variable without a gradient at the start there are no roots until their next update.
            U = ops.where(ops.all(ops.equal(P, 0.0)), p, U)
        b = h.momentum * b + U
        return h.eta * b, (H, P, m, v, b)

    def preconditioned(self, h, g, M, p, H, P, gathered, unbiased):
        """U, and the new factors and roots."""
        blocks = h.blocks
        H, P = (matrices.unpack(x, blocks.count, blocks.block) for x in (H, P))
        G, U = blocks.split(g), blocks.split(M)
        H = [gathered(old, matrices.gram(G, axis)) for axis, old in enumerate(H)]
        roots = lambda: [matrices.inverse_root(unbiased(x), h.root, h.epsilon) for x in H]  # noqa: E731
        P = h.every(h.frequency, roots, P, start=h.start)
        for axis, root in enumerate(P):
            U = matrices.multiplied(U, axis, root)
        if h.graft is not None:
            U = U * (matrices.norms(blocks.split(p)) / (matrices.norms(U) + 1e-16))
        return blocks.join(U), matrices.pack(H), matrices.pack(P)
