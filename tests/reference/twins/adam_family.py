"""Adam and its close relatives.

`weight_decay` is decoupled in all of them: the step takes eta times the decay times the weights before the step too.
"""

import numpy as np

from .common import cautious as masked
from .common import debias, ema


def adamw(
    theta,
    gradient,
    eta,
    steps,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-8,
    weight_decay=0.01,
    cautious=False,
):
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m, v = ema(m, g, beta_1), ema(v, g**2, beta_2)
        u = debias(m, beta_1, t) / (np.sqrt(debias(v, beta_2, t)) + epsilon)
        u = masked(u, g) if cautious else u
        theta = theta - eta(t) * (u + weight_decay * theta)
    return theta


def amsgrad(theta, gradient, eta, steps, beta_1=0.9, beta_2=0.999, epsilon=1e-8, variant="paper", weight_decay=0.0):
    m, v, x = (np.zeros_like(theta) for _ in range(3))
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m, v = ema(m, g, beta_1), ema(v, g**2, beta_2)
        x = np.maximum(x, debias(v, beta_2, t) if variant == "hat" else v)
        first = m if variant == "paper" else debias(m, beta_1, t)
        second = debias(x, beta_2, t) if variant == "raw" else x
        theta = theta - eta(t) * (first / (np.sqrt(second) + epsilon) + weight_decay * theta)
    return theta


def adamax(theta, gradient, eta, steps, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.0):
    m, u = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m = ema(m, g, beta_1)
        u = np.maximum(beta_2 * u, np.abs(g) + epsilon)
        theta = theta - eta(t) * (debias(m, beta_1, t) / u + weight_decay * theta)
    return theta


def nadam(
    theta,
    gradient,
    eta,
    steps,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-8,
    momentum_decay=0.004,
    form="full",
    weight_decay=0.0,
):
    def mu(t):
        return beta_1 * (1 - 0.5 * 0.96 ** (momentum_decay * t))

    m, v, product = np.zeros_like(theta), np.zeros_like(theta), 1.0
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m, v = ema(m, g, beta_1), ema(v, g**2, beta_2)
        if form == "full":
            product = product * mu(t)
            ahead = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
        else:
            ahead = beta_1 * debias(m, beta_1, t + 1) + (1 - beta_1) * debias(g, beta_1, t)
        theta = theta - eta(t) * (ahead / (np.sqrt(debias(v, beta_2, t)) + epsilon) + weight_decay * theta)
    return theta


def rho(beta_2, t):
    """RAdam's length of the average: after t gradients, or for t = infinity."""
    limit = 2 / (1 - beta_2) - 1
    return limit if t == np.inf else limit - 2 * t * beta_2**t / (1 - beta_2**t)


def rectification(beta_2, t):
    limit, now = rho(beta_2, np.inf), rho(beta_2, t)
    return np.sqrt((now - 4) * (now - 2) * limit / ((limit - 4) * (limit - 2) * now))


def radam(
    theta,
    gradient,
    eta,
    steps,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-8,
    threshold=4.0,
    unrectified="momentum",
    weight_decay=0.0,
):
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m, v = ema(m, g, beta_1), ema(v, g**2, beta_2)
        u = debias(m, beta_1, t)
        if rho(beta_2, t) > threshold:
            u = rectification(beta_2, t) * u * np.sqrt(1 - beta_2**t) / (np.sqrt(v) + epsilon)
        elif unrectified == "skip":
            u = np.zeros_like(theta)
        theta = theta - eta(t) * (u + weight_decay * theta)
    return theta


def adabelief(theta, gradient, eta, steps, beta_1=0.9, beta_2=0.999, epsilon=1e-16, weight_decay=0.0):
    m, s = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m = ema(m, g, beta_1)
        s = ema(s, (g - m) ** 2, beta_2) + epsilon
        u = debias(m, beta_1, t) / (np.sqrt(debias(s, beta_2, t)) + epsilon)
        theta = theta - eta(t) * (u + weight_decay * theta)
    return theta


def yogi(
    theta,
    gradient,
    eta,
    steps,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-3,
    initial_accumulator_value=1e-6,
    initial_momentum_value=0.0,
    use_bias_correction=False,
    weight_decay=0.0,
):
    """Without `use_bias_correction` no exact oracle: those installed always have it."""
    m, v = np.full_like(theta, initial_momentum_value), np.full_like(theta, initial_accumulator_value)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m = ema(m, g, beta_1)
        v = v - (1 - beta_2) * np.sign(v - g**2) * g**2
        first, second = (m / (1 - beta_1**t), v / (1 - beta_2**t)) if use_bias_correction else (m, v)
        theta = theta - eta(t) * (first / (np.sqrt(second) + epsilon) + weight_decay * theta)
    return theta


def adabound(
    theta,
    gradient,
    eta,
    steps,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-8,
    final_learning_rate=0.1,
    gamma=1e-3,
    base_learning_rate=1e-3,
    weight_decay=0.0,
):
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m, v = ema(m, g, beta_1), ema(v, g**2, beta_2)
        rate = eta(t) * np.sqrt(1 - beta_2**t) / (1 - beta_1**t) / (np.sqrt(v) + epsilon)
        final = final_learning_rate * eta(t) / base_learning_rate
        rate = np.clip(rate, final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t)))
        theta = theta - rate * m - eta(t) * weight_decay * theta
    return theta


def adadelta(theta, gradient, eta, steps, rho=0.95, epsilon=1e-6, weight_decay=0.0):
    a, d = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        a = ema(a, g**2, rho)
        x = np.sqrt(d + epsilon) / np.sqrt(a + epsilon) * g
        d = ema(d, x**2, rho)
        theta = theta - eta(t) * (x + weight_decay * theta)
    return theta
