"""Algorithms with less state than Adam. `weight_decay` is decoupled in Adafactor, SM3 and Lion."""

from functools import reduce

import numpy as np

from .common import cautious as masked
from .common import ema, mean, rms


def adafactor(
    theta,
    gradient,
    eta,
    steps,
    beta_1=0.0,
    beta_2_decay=0.8,
    epsilon_1=1e-30,
    epsilon_2=1e-3,
    clip_threshold=1.0,
    relative_step=True,
    scale_parameter=True,
    warmup_init=False,
    min_size_to_factor=1,
    weight_decay=0.0,
):
    """Factored over the two trailing axes; the moment is that of whole steps, their rate included."""
    factored = np.ndim(theta) >= 2 and min(np.shape(theta)[-2:]) >= min_size_to_factor
    m, v, row, column = (np.zeros_like(theta) for _ in range(4))
    if factored:
        row, column = mean(row, -1), mean(column, -2)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        rate = eta(t)
        if relative_step:
            rate = min(1e-6 * t if warmup_init else rate, 1 / np.sqrt(t))
        if scale_parameter:
            rate = rate * max(epsilon_2, rms(theta))
        beta_2 = 1 - t**-beta_2_decay
        square = g**2 + epsilon_1
        if factored:
            row, column = ema(row, mean(square, -1), beta_2), ema(column, mean(square, -2), beta_2)
            u = g / np.sqrt(row * column / mean(row, -2))
        else:
            v = ema(v, square, beta_2)
            u = g / np.sqrt(v)
        step = rate * u / max(1, rms(u) / clip_threshold)
        m = ema(m, step, beta_1)
        theta = theta - m - eta(t) * weight_decay * theta
    return theta


def sm3(theta, gradient, eta, steps, momentum=0.9, weight_decay=0.0):
    """The second form of the paper; a variable without axes sums its own squares."""
    axes = range(np.ndim(theta))
    others = [tuple(a for a in axes if a != axis) for axis in axes] or [()]
    tops = [np.max(np.zeros_like(theta), axis=o, keepdims=True, initial=0) for o in others]
    m = np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        nu = reduce(np.minimum, tops) + g**2
        tops = [np.max(nu, axis=o, keepdims=True, initial=0) for o in others]
        m = ema(m, np.where(nu > 0, g / np.sqrt(np.where(nu > 0, nu, 1)), 0), momentum)
        theta = theta - eta(t) * (m + weight_decay * theta)
    return theta


def novograd(
    theta,
    gradient,
    eta,
    steps,
    beta_1=0.95,
    beta_2=0.98,
    epsilon=1e-8,
    grad_averaging=False,
    weight_decay=0.0,
):
    """The decay is part of what the moment adds up; both averages start with their first value, undamped."""
    m = v = None
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        square = np.sum(g**2)
        v = square if v is None else ema(v, square, beta_2)
        u = g / (np.sqrt(v) + epsilon) + weight_decay * theta
        m = u if m is None else beta_1 * m + ((1 - beta_1) * u if grad_averaging else u)
        theta = theta - eta(t) * m
    return theta


def lion(theta, gradient, eta, steps, beta_1=0.9, beta_2=0.99, weight_decay=0.0, cautious=False):
    m = np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        u = np.sign(ema(m, g, beta_1))
        u = masked(u, g) if cautious else u
        m = ema(m, g, beta_2)
        theta = theta - eta(t) * (u + weight_decay * theta)
    return theta


def tiger(theta, gradient, eta, steps, beta=0.965, parameter_scale=True, weight_decay=0.01, per_row=False):
    """The decay is at the variable's own rate; with `parameter_scale` vectors have half the rate and no decay.

    With `parameter_scale` no exact oracle: the one installed has no scale.
    """
    vector = np.ndim(theta) <= 1
    m = np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m = ema(m, g, beta)
        rate, decay = eta(t), weight_decay
        if parameter_scale and vector:
            rate, decay = rate / 2, 0.0
        elif parameter_scale:
            rate = rate * (np.sqrt(mean(theta**2, -1)) if per_row else rms(theta))
        theta = theta - rate * (np.sign(m) + decay * theta)
    return theta
