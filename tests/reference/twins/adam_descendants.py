"""Later algorithms with Adam's denominator. `weight_decay` is decoupled in all but Adan, whose rule says where."""

import numpy as np

from .adam_family import adamw
from .common import debias, ema, mean


def adan(
    theta,
    gradient,
    eta,
    steps,
    beta_1=0.98,
    beta_2=0.92,
    beta_3=0.99,
    epsilon=1e-8,
    proximal=True,
    weight_decay=0.02,
):
    m, v, n = (np.zeros_like(theta) for _ in range(3))
    previous = None
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        d = g - (g if previous is None else previous)
        m, v, n = ema(m, g, beta_1), ema(v, d, beta_2), ema(n, (g + beta_2 * d) ** 2, beta_3)
        u = debias(m, beta_1, t) + beta_2 * debias(v, beta_2, t)
        decay = eta(t) * weight_decay
        if not proximal:
            theta = theta * (1 - decay)
        theta = theta - eta(t) * u / (np.sqrt(debias(n, beta_3, t)) + epsilon)
        if proximal:
            theta = theta / (1 + decay)
        previous = g
    return theta


def warmed_beta(t, steps, beta_1, beta_3):
    """AdEMAMix's third decay rate: its half-life grows linearly from that of the first."""

    def half_life(beta):
        return np.log(0.5) / np.log(beta) - 1 if beta > 0 else -1.0

    if steps is None or t >= steps:
        return beta_3
    return 0.5 ** (1 / ((1 - t / steps) * half_life(beta_1) + t / steps * half_life(beta_3) + 1))


def ademamix(
    theta,
    gradient,
    eta,
    steps,
    beta_1=0.9,
    beta_2=0.999,
    beta_3=0.9999,
    alpha=5.0,
    epsilon=1e-8,
    alpha_steps=None,
    beta_3_steps=None,
    weight_decay=0.0,
):
    """The schedules have no exact oracle: Apple's and pytorch_optimizer's half-lives are those of beta + 1e-8."""
    fast, slow, v = (np.zeros_like(theta) for _ in range(3))
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        weight = alpha if alpha_steps is None else alpha * min(1, t / alpha_steps)
        fast, v = ema(fast, g, beta_1), ema(v, g**2, beta_2)
        slow = ema(slow, g, warmed_beta(t, beta_3_steps, beta_1, beta_3))
        u = (debias(fast, beta_1, t) + weight * slow) / (np.sqrt(debias(v, beta_2, t)) + epsilon)
        theta = theta - eta(t) * (u + weight_decay * theta)
    return theta


def adopt(theta, gradient, eta, steps, beta_1=0.9, beta_2=0.9999, epsilon=1e-6, clip_exponent=0.25, weight_decay=0.0):
    """The first gradient only fills v; the decay does not wait."""
    m, v = np.zeros_like(theta), None
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        if v is None:
            v = g**2
        else:
            n = g / np.maximum(np.sqrt(v), epsilon)
            if clip_exponent is not None:
                n = np.clip(n, -((t - 1) ** clip_exponent), (t - 1) ** clip_exponent)
            m, v = ema(m, n, beta_1), ema(v, g**2, beta_2)
        theta = theta - eta(t) * (m + weight_decay * theta)
    return theta


def mars(
    theta,
    gradient,
    eta,
    steps,
    beta_1=0.95,
    beta_2=0.99,
    gamma=0.025,
    epsilon=1e-8,
    variant="adamw",
    vector_learning_rate_multiplier=1.0,
    vector_beta_1=0.9,
    vector_beta_2=0.95,
    weight_decay=0.0,
):
    """Variants adamw and lion. What is no matrix has AdamW at eta times the multiplier, with the same epsilon."""
    if np.ndim(theta) != 2:

        def rate(t):
            return vector_learning_rate_multiplier * eta(t)

        return adamw(theta, gradient, rate, steps, vector_beta_1, vector_beta_2, epsilon, weight_decay)
    m, v, previous = (np.zeros_like(theta) for _ in range(3))
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        c = g + gamma * beta_1 / (1 - beta_1) * (g - previous)
        c = c / max(1, np.linalg.norm(c))
        m, v = ema(m, c, beta_1), ema(v, c**2, beta_2)
        u = debias(m, beta_1, t) / (np.sqrt(debias(v, beta_2, t)) + epsilon) if variant == "adamw" else np.sign(m)
        theta = theta - eta(t) * (u + weight_decay * theta)
        previous = g
    return theta


def grams(theta, gradient, eta, steps, beta_1=0.9, beta_2=0.999, epsilon=1e-6, weight_decay=0.0):
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m, v = ema(m, g, beta_1), ema(v, g**2, beta_2)
        u = debias(m, beta_1, t) / (np.sqrt(debias(v, beta_2, t)) + epsilon)
        theta = theta - eta(t) * (np.sign(g) * np.abs(u) + weight_decay * theta)
    return theta


def adam_mini(theta, gradient, eta, steps, beta_1=0.9, beta_2=0.999, epsilon=1e-8, axes=(), weight_decay=0.0):
    """The mean square is taken over `axes`. No exact oracle: the one installed computes in float32."""
    m, v = np.zeros_like(theta), mean(np.zeros_like(theta), axes)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m, v = ema(m, g, beta_1), ema(v, mean(g**2, axes), beta_2)
        u = debias(m, beta_1, t) / (np.sqrt(debias(v, beta_2, t)) + epsilon)
        theta = theta - eta(t) * (u + weight_decay * theta)
    return theta
