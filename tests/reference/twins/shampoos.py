"""Shampoo: the original, and the distributed form. `weight_decay` is decoupled. A scalar is a vector of one element."""

from itertools import product

import numpy as np

from .common import debias, ema, norm
from .matrices import by_axis, unfolded


def _root(matrix, epsilon, order):
    """(matrix + epsilon)^(-1/order); what rounding makes negative is shifted up to zero first."""
    values, vectors = np.linalg.eigh(matrix)
    values = values - min(values.min(initial=0), 0) + epsilon
    return vectors * values ** (-1 / order) @ vectors.T


def _as_vector(theta, gradient):
    """A scalar and its gradient with one axis."""
    return np.reshape(theta, (1,)), lambda t, x: np.reshape(gradient(t, x[0]), (1,))


def shampoo_original(theta, gradient, eta, steps, epsilon=1e-4, weight_decay=0.0):
    """Each axis has the sum of its outer products, from epsilon times the identity."""
    if np.ndim(theta) == 0:
        return shampoo_original(*_as_vector(theta, gradient), eta, steps, epsilon, weight_decay)[0]
    sums = [epsilon * np.eye(size) for size in theta.shape]
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        for axis in range(g.ndim):
            rows = unfolded(g, axis)
            sums[axis] = sums[axis] + rows @ rows.T
        step = by_axis(g, [_root(total, 0.0, 2 * g.ndim) for total in sums])
        theta = theta - eta(t) * step - eta(t) * weight_decay * theta
    return theta


class _Block:
    """The state of one block, and its direction for a gradient."""

    def __init__(self, shape, beta_1, beta_2, beta_3, epsilon, frequency, start, graft, graft_epsilon):
        self.beta_1, self.beta_2, self.beta_3, self.epsilon = beta_1, beta_2, beta_3, epsilon
        self.frequency, self.start, self.graft, self.graft_epsilon = frequency, start, graft, graft_epsilon
        self.m, self.v = np.zeros(shape), np.zeros(shape)
        self.factors = [np.zeros((size, size)) for size in shape]
        self.roots = [None for _ in shape]

    def gathered(self, average, x):
        """An average of squares, or their sum if beta_2 is 1."""
        return average + x if self.beta_2 == 1 else ema(average, x, self.beta_2)

    def unbiased(self, average, t):
        return average if self.beta_2 == 1 else debias(average, self.beta_2, t)

    def direction(self, t, g):
        for axis, factor in enumerate(self.factors):
            rows = unfolded(g, axis)
            self.factors[axis] = self.gathered(factor, rows @ rows.T)
        self.v = self.gathered(self.v, g**2)
        m = ema(self.m, g, self.beta_3) / (1 - self.beta_3 * self.beta_1 ** (t - 1))
        self.m = ema(self.m, g, self.beta_1)
        grafted = m
        if self.graft == "adam":
            grafted = m / (np.sqrt(self.unbiased(self.v, t)) + self.graft_epsilon)
        if t < self.start:
            return grafted
        if t == self.start or t % self.frequency == 0:
            self.roots = [_root(self.unbiased(f, t), self.epsilon, 2 * g.ndim) for f in self.factors]
        u = by_axis(m, self.roots)
        return u if self.graft is None else u * norm(grafted) / (norm(u) + 1e-16)


def shampoo(
    theta,
    gradient,
    eta,
    steps,
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
    weight_decay=0.0,
):
    """The distributed form, without merging of small axes. No package has it.

    beta_3 of None is beta_1, or its square with nesterov; momentum is a heavy ball on the whole direction. The roots
    are of the updates number `start` and of every `frequency`-th after it; without a graft the direction before
    `start` is the first moment.
    """
    if np.ndim(theta) == 0:
        settings = (beta_1, beta_2, beta_3, epsilon, frequency, start, block_size, graft, graft_epsilon)
        return shampoo(*_as_vector(theta, gradient), eta, steps, *settings, nesterov, momentum, weight_decay)[0]
    if beta_3 is None:
        beta_3 = beta_1**2 if nesterov else beta_1
    start = frequency if start is None else start
    cuts = [[slice(at, at + block_size) for at in range(0, size, block_size)] for size in theta.shape]
    settings = (beta_1, beta_2, beta_3, epsilon, frequency, start, graft, graft_epsilon)
    blocks = [(cut, _Block(theta[cut].shape, *settings)) for cut in product(*cuts)]
    ball = np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        u = np.zeros_like(theta)
        for cut, block in blocks:
            u[cut] = block.direction(t, g[cut])
        ball = momentum * ball + u
        theta = theta - eta(t) * ball - eta(t) * weight_decay * theta
    return theta
