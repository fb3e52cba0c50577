"""Shampoo."""

import math
from typing import Any

import keras
from keras import ops
from keras.ops import sqrt

from keras_adaptive.core import checks
from keras_adaptive.core.fields import count, flag, fraction, kind, one_of, rate, sole_stabiliser
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.core.state.slots import Slot
from keras_adaptive.optimizers import _matrices as matrices

# The five of AlgoPerf: peak learning rate, 1 - beta_1, 1 - beta_2, weight decay, the part of the training that is
# warm-up, and what else is not the same in all.
PUBLISHED: dict[int, tuple[float, float, float, float, float, dict[str, Any]]] = {
    1: (0.00174864, 0.0673393, 0.00448403, 0.0812162, 0.02, {"nesterov": True}),
    2: (0.00143817, 0.0253375, 0.0250802, 1.97e-4, 0.05, {"nesterov": True}),
    3: (4.19945, 1.0, 0.00237017, 6.40e-5, 0.02, {"graft": "sgd", "momentum": 0.9685}),
    4: (0.0012, 0.0166107, 0.00588822, 4.03e-4, 0.02, {"nesterov": True, "root": 2, "momentum": 0.5}),
    5: (0.00130821, 0.0268666, 0.00187671, 0.163753, 0.1, {"nesterov": True}),
}


def _packed(shape, h):
    blocks = h.variable.blocks
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

    The axes are those of a layer's matrix, as in `Soap`. If beta_2 is 1 nothing is divided by 1 - beta_2^t. The
    original is `Shampoo(beta_1=0.0, beta_2=1.0, epsilon=1e-4, frequency=1, graft=None)`, up to blocks. The factors of
    small axes are small, so by default none are merged; the distributed implementation does merge_axes, and so do the
    settings of `preset`.

    Slots: H and P, the factors and roots of all axes and blocks in one vector; m if beta_1; v with graft "adam"; b with
    momentum, each of the variable's shape.

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

    learning_rate = rate(0.001)
    beta_1 = fraction(0.9, "weight of the last average of the gradient")
    beta_2 = kind(checks.rate)(
        0.999,
        "weight of the last average of the factors and squares, above 0 and at most 1; 1 sums",
    )
    beta_3 = fraction(
        None,
        "weight of the average in the step's mixture with the gradient, 0 without beta_1, or None for beta_1 "
        "or its square",
    )
    epsilon = sole_stabiliser(1e-12, "stabiliser of the factors, in units of the squared gradient")
    frequency = count(100, "after how many updates the roots are renewed")
    start = count(None, "number of the first update with roots, or None for frequency")
    block_size = count(1024, "how long a block is at most along an axis")
    graft = one_of(
        ("adam", "sgd"), "adam", "whose step gives that of each block its length; None for neither", optional=True
    )
    graft_epsilon = sole_stabiliser(1e-08, "stabiliser of Adam's step, outside of the root, in units of the gradient")
    nesterov = flag(False, "Nadam's mixture with the gradient")
    momentum = fraction(0.0, "weight of the last velocity; 0.0 stores no slot")
    root = count(None, "which root is taken of every factor, or None for 2 times the number of axes")
    merge_axes = flag(
        False,
        "leave out axes of length 1 and make neighbours one axis that are not longer than block_size together",
    )
    slots = (
        Slot("H", shape=_packed),
        Slot("P", shape=_packed),
        Slot("m", when="beta_1"),
        Slot("v", when="variable.grafts_adam", nonnegative=True),
        Slot("b", when="momentum"),
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
        setting: dict[str, Any] = {
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

    def about(self, role, h):
        view = matrices.by_axes(role)
        blocks = None
        if math.prod(role.shape):
            blocks = matrices.Blocks(view.lengths, h.block_size, h.merge_axes, view.count)
        return {
            "view": view,
            "blocks": blocks,
            "start": h.frequency if h.start is None else h.start,
            "root": 2 * blocks.order if blocks and h.root is None else h.root,
            "grafts_adam": h.graft == "adam",
            "sums": h.beta_2 == 1.0,
        }

    def rule(self, h, theta, g, H, P, m, v, b):
        def gathered(old, new):
            return old + new if h.variable.sums else h.beta_2 * old + (1 - h.beta_2) * new

        def unbiased(average):
            return average if h.variable.sums else average / h.debias(h.beta_2)

        beta_3 = h.beta_1 ** (2 if h.nesterov else 1) if h.beta_3 is None else h.beta_3
        M = (beta_3 * m + (1 - beta_3) * g) / (1 - beta_3 + beta_3 * h.debias(h.beta_1, -1))
        m = h.beta_1 * m + (1 - h.beta_1) * g
        v = gathered(v, g * g)
        p = M / (sqrt(unbiased(v)) + h.graft_epsilon) if h.variable.grafts_adam else M
        U = p
        if h.variable.blocks is not None:
            U, H, P = self.preconditioned(h, g, M, p, H, P, gathered, unbiased)
            # Of a variable without a gradient at the start there are no roots until their next update.
            U = ops.where(ops.all(ops.equal(P, 0.0)), p, U)
        b = h.momentum * b + U
        return h.eta * b, (H, P, m, v, b)

    def preconditioned(self, h, g, M, p, H, P, gathered, unbiased):
        """U, and the new factors and roots."""
        blocks = h.variable.blocks
        H, P = (matrices.unpack(x, blocks.count, blocks.block) for x in (H, P))
        G, U = blocks.split(h.variable.view.of(g)), blocks.split(h.variable.view.of(M))
        H = [gathered(old, matrices.gram(G, axis)) for axis, old in enumerate(H)]
        roots = lambda: [matrices.inverse_root(unbiased(x), h.variable.root, h.epsilon) for x in H]  # noqa: E731
        P = h.every(h.frequency, roots, P, start=h.variable.start)
        for axis, root in enumerate(P):
            U = matrices.multiplied(U, axis, root)
        if h.graft is not None:
            U = U * (matrices.norms(blocks.split(h.variable.view.of(p))) / (matrices.norms(U) + 1e-16))
        return h.variable.view.back(blocks.join(U)), matrices.pack(H), matrices.pack(P)
