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
from keras_adaptive.optimizers import _views as views

# AlgoPerf's five settings: peak learning rate, 1 - beta_1, 1 - beta_2, weight decay, the fraction of the training that
# is warm-up, and the other arguments.
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

        For each axis of each block (at most block_size long), G is the block of g_t with that axis as its rows:
        H_t = beta_2 H_{t-1} + (1 - beta_2) G G^T;  H_{t-1} + G G^T if beta_2 is 1                  H_0 = 0
        P_t = (H_t / (1 - beta_2^t) + epsilon I)^(-1/root)  if t is start or a later multiple of frequency, else P_{t-1}
        P_0 = 0;  root (None) is twice the number of axes,  start (None) is frequency
        M_t = (beta_3 m_{t-1} + (1 - beta_3) g_t) / (1 - beta_3 beta_1^(t-1))
        m_t = beta_1 m_{t-1} + (1 - beta_1) g_t                                                     m_0 = 0
        v_t = beta_2 v_{t-1} + (1 - beta_2) g_t g_t;  v_{t-1} + g_t g_t if beta_2 is 1              v_0 = 0
        p_t = M_t / (sqrt(v_t / (1 - beta_2^t)) + graft_epsilon) with graft "adam", else M_t
        U_t = M_t with every axis multiplied by P_t, and then by norm(p_t) / (norm(U_t) + 1e-16) of the block if graft;
            p_t for a tensor with fewer than min_axes axes or with one longer than max_size, which has no factors
        b_t = momentum b_{t-1} + (p_t while P_t is 0, then U_t)                                     b_0 = 0
        theta_t = theta_{t-1} - eta_t b_t
        beta_3 (None) is beta_1, or beta_1^2 with nesterov; with merge_axes, neighbouring axes count as one

    The axes are those of a layer's matrix, as in `Soap`. If beta_2 is 1, nothing is divided by 1 - beta_2^t. The
    original algorithm is `Shampoo(beta_1=0.0, beta_2=1.0, epsilon=1e-4, frequency=1, graft=None)`, except for the
    blocks. The factors of small axes are small, so by default no axes are merged.

    Slots: H and P, each the factors or roots of all axes and blocks in one vector; m if beta_1 is above 0; v with graft
    "adam"; b with momentum. m, v and b have the variable's shape.

    Defaults: learning rate, betas, epsilon, frequency, graft and graft_epsilon are what the distributed
    implementation's README puts in the place of Adam. beta_3, start, block_size, nesterov, momentum and root are the
    defaults of that code. min_axes 1 is that of the first distributed implementation (Anil et al.), whose limit
    of an axis is 4096; the later one has no limits, which max_size None is. merge_axes is chosen here.

    Start with: Adam's learning rate and schedule, since graft "adam" makes the steps as long as Adam's: 1e-4 to 3e-3,
    with a warm-up and a decay. `Shampoo.preset(1, steps)` to `preset(5, steps)` are the settings that won AlgoPerf's
    external tuning, with 1.2e-3 to 1.75e-3 except for the third, which has the graft "sgd". Small models take more.

    Pitfalls:

    - Before the update `start`, by default the 100th, the steps are Adam's. For short runs take a lower frequency,
      which costs time.
    - A vector has a factor too, and a table one of block_size x block_size for each block of its rows: 8,200 bytes per
      parameter of a vector of 100,000, and 137 of a (50000, 64) table. With min_axes=2 and max_size=4096 such
      variables have no factors, and move as with the graft alone.
    - Without graft the steps have other lengths, and Adam's learning rate means nothing.
    - It stores 24 bytes per parameter of a (1024, 1024) matrix.

    Differs from:

    - facebookresearch/optimizers: merges axes by default, as merge_axes does. There beta_2 is 1, frequency 1 and no
      graft unless given.
    - `pytorch_optimizer.Shampoo`: the original, the same numbers with
      `preconditioning_compute_steps=1, matrix_eps=1e-4` there.
    - `Soap`: Adam in the basis of the eigenvectors, without roots and graft. `Muon`: no factors, by orthogonal steps.

    Source: Gupta, Koren and Singer, ICML 2018, arXiv:1802.09568; distributed: Anil et al., 2020, arXiv:2002.09018, and
    Shi et al., 2023, arXiv:2309.06497.

    Example:

    >>> optimizer = Shampoo(0.5, beta_1=0.0, beta_2=1.0, epsilon=1e-8, frequency=1, graft=None)
    >>> theta = keras.Variable([[1.0, 0.0], [0.0, 1.0]])
    >>> optimizer.apply([keras.ops.convert_to_tensor([[4.0, 0.0], [0.0, -0.25]])], [theta])
    >>> print(keras.ops.convert_to_numpy(theta).round(4))
    [[0.5 0. ]
     [0.  1.5]]
    """

    learning_rate = rate(0.001)
    beta_1 = fraction(0.9, "decay rate of the moving average of the gradient")
    beta_2 = kind(checks.rate)(
        0.999,
        "decay rate of the averages of the factors and the squares; with 1 they are sums",
    )
    beta_3 = fraction(
        None,
        "weight of the average in its mixture with the gradient; None: beta_1, or beta_1^2 with nesterov",
        "It must be 0 or None if beta_1 is 0",
    )
    epsilon = sole_stabiliser(1e-12, "stabiliser of the factors, in units of the squared gradient")
    frequency = count(100, "number of updates between two computations of the roots")
    start = count(None, "first update that computes the roots; None: frequency")
    block_size = count(1024, "largest length of a block along an axis")
    min_axes = count(1, "fewest axes of a tensor that has factors; with 2, vectors have none")
    max_size = count(None, "largest length of an axis of a tensor that has factors; None: any")
    graft = one_of(
        ("adam", "sgd"), "adam", "algorithm whose step sets the norm of each block's step; None: neither", optional=True
    )
    graft_epsilon = sole_stabiliser(1e-08, "stabiliser of Adam's step, outside of the root, in units of the gradient")
    nesterov = flag(False, "mix the average with the gradient as Nadam does")
    momentum = fraction(0.0, "decay rate of the velocity; 0.0 stores no slot")
    root = count(None, "order of the inverse root of every factor; None: 2 times the number of axes")
    merge_axes = flag(
        False,
        "leave out axes of length 1, and merge neighbouring axes that together are at most block_size long",
    )
    stacks = True
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
            steps: number of updates of the training, for the warm-up and a cosine decay to 0. Default None: a constant
                learning rate.
            **options: other arguments of the class. They replace those of the setting.

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
        view = views.by_axes(role)
        blocks = None
        if math.prod(role.shape) and len(view.lengths) >= h.min_axes and max(view.lengths) <= (h.max_size or math.inf):
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
        b = h.momentum * b + U
        return h.eta * b, (H, P, m, v, b)

    def preconditioned(self, h, g, M, p, H, P, gathered, unbiased):
        """U, and the new factors and roots."""
        view, blocks, packed = h.variable.view, h.variable.blocks, H
        H, P = (matrices.unpack(x, blocks.count, blocks.block) for x in (H, P))
        G, U, p = (blocks.split(view.tensors(x)) for x in (g, M, p))
        H = [gathered(old, matrices.gram(G, axis)) for axis, old in enumerate(H)]
        roots = lambda: [matrices.inverse_root(unbiased(x), h.variable.root, h.epsilon) for x in H]  # noqa: E731
        P = h.every(h.frequency, roots, P, start=h.variable.start)
        for axis, root in enumerate(P):
            U = matrices.multiplied(U, axis, root)
        if h.graft is not None:
            U = U * (matrices.norms(p) / (matrices.norms(U) + 1e-16))
        # A variable that had no gradient when the roots were computed has none until they are computed again.
        U = ops.where(matrices.missing(P, U), p, U)
        return view.back(blocks.join(U), like=g), matrices.pack(H, like=packed), matrices.pack(P, like=packed)
