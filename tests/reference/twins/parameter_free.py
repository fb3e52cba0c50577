"""Algorithms without a schedule or without a learning rate. All but Schedule-Free are coupled: lists of variables."""

import numpy as np

from .common import debias, ema, norm


def _schedule_free(theta, gradient, eta, steps, beta, direction, warmup_steps, weight_power, r, return_average):
    x = y = z = theta
    largest, total = 0.0, 0.0
    for t in range(1, steps + 1):
        d = direction(t, gradient(t, y), y)
        gamma = eta(t) * (min(1, t / warmup_steps) if warmup_steps else 1)
        largest = max(largest, gamma)
        weight = t**r * largest**weight_power
        total = total + weight
        c = weight / total if total > 0 else 0.0
        z = z - gamma * d
        x = (1 - c) * x + c * z
        y = (1 - beta) * z + beta * x
    return x if return_average else y


def schedule_free_sgd(
    theta,
    gradient,
    eta,
    steps,
    beta=0.9,
    warmup_steps=0,
    weight_power=2.0,
    r=0.0,
    weight_decay=0.0,
    return_average=False,
):
    """The variable is y, where the gradient and the decay are taken; x is the average."""

    def direction(t, g, y):
        return g + weight_decay * y

    return _schedule_free(theta, gradient, eta, steps, beta, direction, warmup_steps, weight_power, r, return_average)


def schedule_free_adamw(
    theta,
    gradient,
    eta,
    steps,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-8,
    warmup_steps=0,
    weight_power=2.0,
    r=0.0,
    weight_decay=0.0,
    return_average=False,
):
    """As schedule_free_sgd, along the gradient over Adam's second moment."""
    v = np.zeros_like(theta)

    def direction(t, g, y):
        nonlocal v
        v = ema(v, g**2, beta_2)
        return g / (np.sqrt(debias(v, beta_2, t)) + epsilon) + weight_decay * y

    return _schedule_free(theta, gradient, eta, steps, beta_1, direction, warmup_steps, weight_power, r, return_average)


def _inner(left, right):
    return sum(np.sum(a * b) for a, b in zip(left, right, strict=True))


def _correction(beta_1, beta_2, t):
    return np.sqrt(1 - beta_2**t) / (1 - beta_1**t)


def prodigy(
    thetas,
    gradients,
    eta,
    steps,
    beta_1=0.9,
    beta_2=0.999,
    beta_3=None,
    epsilon=1e-8,
    d_0=1e-6,
    d_coefficient=1.0,
    growth_rate=np.inf,
    use_bias_correction=False,
    safeguard_warmup=False,
    weight_decay=0.0,
):
    """The decay is by the estimated rate too. While no gradient has counted, the variables stay, as in the authors'."""
    beta_3 = np.sqrt(beta_2) if beta_3 is None else beta_3
    d = d_max = d_0
    numerator = 0.0
    starts = thetas
    m, v, s = ([np.zeros_like(theta) for theta in thetas] for _ in range(3))
    for t in range(1, steps + 1):
        g = gradients(t, thetas)
        delta = d * eta(t) * (_correction(beta_1, beta_2, t) if use_bias_correction else 1)
        ways = [start - theta for start, theta in zip(starts, thetas, strict=True)]
        numerator = beta_3 * numerator + (d / d_0) * delta * _inner(g, ways)
        m = [beta_1 * a + (1 - beta_1) * d * b for a, b in zip(m, g, strict=True)]
        v = [beta_2 * a + (1 - beta_2) * d**2 * b**2 for a, b in zip(v, g, strict=True)]
        counted = (d / d_0) * (d if safeguard_warmup else delta)
        s = [beta_3 * a + counted * b for a, b in zip(s, g, strict=True)]
        denominator = sum(np.sum(np.abs(a)) for a in s)
        if denominator == 0:
            continue
        estimate = d_coefficient * numerator / denominator
        if d == d_0:
            d = max(d, estimate)
        d_max = max(d_max, estimate)
        d = min(d_max, d * growth_rate)
        thetas = [
            theta - delta * weight_decay * theta - delta * a / (np.sqrt(b) + d * epsilon)
            for theta, a, b in zip(thetas, m, v, strict=True)
        ]
    return thetas


def dadapt_adam(
    thetas,
    gradients,
    eta,
    steps,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-8,
    d_0=1e-6,
    growth_rate=np.inf,
    use_bias_correction=False,
    weight_decay=0.0,
):
    """The rate is in the first moment, so a step follows in an update whose rate is zero too."""
    root = np.sqrt(beta_2)
    d, numerator = d_0, 0.0
    m, v, s = ([np.zeros_like(theta) for theta in thetas] for _ in range(3))
    for t in range(1, steps + 1):
        g = gradients(t, thetas)
        delta = d * eta(t) * (_correction(beta_1, beta_2, t) if use_bias_correction else 1)
        scaled = [a / (np.sqrt(b) + epsilon) for a, b in zip(s, v, strict=True)]
        gained = delta * _inner(g, scaled)
        m = [ema(a, delta * b, beta_1) for a, b in zip(m, g, strict=True)]
        v = [ema(a, b**2, beta_2) for a, b in zip(v, g, strict=True)]
        s = [ema(a, delta * b, root) for a, b in zip(s, g, strict=True)]
        denominator = sum(np.sum(np.abs(a)) for a in s)
        if denominator == 0:
            continue
        numerator = ema(numerator, gained, root)
        d = max(d, min(numerator / ((1 - root) * denominator), d * growth_rate))
        thetas = [
            theta - delta * weight_decay * theta - a / (np.sqrt(b) + epsilon)
            for theta, a, b in zip(thetas, m, v, strict=True)
        ]
    return thetas


def _along(g, thetas, weight_decay):
    return [a + weight_decay * theta for a, theta in zip(g, thetas, strict=True)]


def _averages(averages, thetas, power, t):
    weight = (1 + power) / (t + power)
    return [(1 - weight) * a + weight * theta for a, theta in zip(averages, thetas, strict=True)]


def _distance(thetas, starts):
    return norm(*(theta - start for theta, start in zip(thetas, starts, strict=True)))


def dog(
    thetas,
    gradients,
    eta,
    steps,
    reps_rel=1e-6,
    epsilon=1e-8,
    average_power=8.0,
    weight_decay=0.0,
    return_average=False,
):
    """The distance is that of the variables before the step; epsilon is the first value of the gradients' sum."""
    starts = averages = thetas
    farthest, total = reps_rel * (1 + norm(*thetas)), epsilon
    for t in range(1, steps + 1):
        g = _along(gradients(t, thetas), thetas, weight_decay)
        farthest = max(farthest, _distance(thetas, starts))
        total = total + norm(*g) ** 2
        rate = eta(t) * farthest / np.sqrt(total)
        thetas = [theta - rate * a for theta, a in zip(thetas, g, strict=True)]
        averages = _averages(averages, thetas, average_power, t)
    return averages if return_average else thetas


def dowg(
    thetas,
    gradients,
    eta,
    steps,
    initial_distance=None,
    epsilon=1e-4,
    average_power=8.0,
    weight_decay=0.0,
    return_average=False,
):
    """The first squared distance is initial_distance squared, or epsilon if that is None, as in optax and the authors'.

    epsilon is added to the root of the weighted sum of squared gradients, which begins at zero.
    """
    starts = averages = thetas
    square, total = epsilon if initial_distance is None else initial_distance**2, 0.0
    for t in range(1, steps + 1):
        g = _along(gradients(t, thetas), thetas, weight_decay)
        square = max(square, _distance(thetas, starts) ** 2)
        total = total + square * norm(*g) ** 2
        rate = eta(t) * square / (np.sqrt(total) + epsilon)
        thetas = [theta - rate * a for theta, a in zip(thetas, g, strict=True)]
        averages = _averages(averages, thetas, average_power, t)
    return averages if return_average else thetas
