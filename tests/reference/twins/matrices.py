"""Algorithms that treat a variable as a matrix. `weight_decay` is decoupled; a Keras matrix has its outputs last."""

import numpy as np

from .common import debias, ema, mean, norm


def newton_schulz(u, steps=5):
    """Muon's quintic iteration: singular values near 1, not at 1."""
    wide = u.T if u.shape[0] > u.shape[1] else u
    x = wide / (norm(wide) + 1e-7)
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if u.shape[0] > u.shape[1] else x


def _scale(scale, shape):
    rows, columns = shape
    if scale == "moonlight":
        return 0.2 * np.sqrt(max(rows, columns))
    return np.sqrt(max(1, columns / rows)) if rows else 1.0


def companion(
    theta,
    gradient,
    eta,
    steps,
    companion_learning_rate_multiplier=0.015,
    companion_beta_1=0.9,
    companion_beta_2=0.95,
    companion_epsilon=1e-10,
    weight_decay=0.0,
):
    """AdamW for variables that are not matrices, at eta times the multiplier."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m, v = ema(m, g, companion_beta_1), ema(v, g**2, companion_beta_2)
        m_hat, v_hat = debias(m, companion_beta_1, t), debias(v, companion_beta_2, t)
        step = m_hat / (np.sqrt(v_hat) + companion_epsilon) + weight_decay * theta
        theta = theta - eta(t) * companion_learning_rate_multiplier * step
    return theta


def muon(
    theta,
    gradient,
    eta,
    steps,
    momentum=0.95,
    nesterov=True,
    newton_schulz_steps=5,
    scale="original",
    weight_decay=0.0,
    **companions,
):
    """A matrix; any other variable goes to the companion, so give a kernel in its matrix view."""
    return _orthogonal(
        theta, gradient, eta, steps, momentum, nesterov, newton_schulz_steps, scale, weight_decay, companions, None
    )


def normuon(
    theta,
    gradient,
    eta,
    steps,
    momentum=0.95,
    beta_2=0.95,
    nesterov=True,
    newton_schulz_steps=5,
    scale="original",
    weight_decay=0.0,
    **companions,
):
    """Muon with a second moment for each column, the step as long as Muon's. No package has it in float64."""
    return _orthogonal(
        theta, gradient, eta, steps, momentum, nesterov, newton_schulz_steps, scale, weight_decay, companions, beta_2
    )


def _orthogonal(
    theta, gradient, eta, steps, momentum, nesterov, newton_schulz_steps, scale, weight_decay, companions, beta_2
):
    if np.ndim(theta) != 2:
        # The learning rate of "moonlight" is AdamW's.
        companions = {"companion_learning_rate_multiplier": 1.0 if scale == "moonlight" else 0.015} | companions
        return companion(theta, gradient, eta, steps, weight_decay=weight_decay, **companions)
    m, v = np.zeros_like(theta), np.zeros_like(mean(theta, 0))
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m = ema(m, g, momentum)
        o = newton_schulz(ema(m, g, momentum) if nesterov else m, newton_schulz_steps)
        if beta_2 is not None:
            v = ema(v, mean(o**2, 0), beta_2)
            h = o / (np.sqrt(v) + 1e-8)
            o = h * norm(o) / (norm(h) + 1e-8)
        theta = theta - eta(t) * _scale(scale, theta.shape) * o - eta(t) * weight_decay * theta
    return theta


def by_axis(x, matrices):
    """x with each of its axes multiplied by its matrix: the new index is the row's."""
    for axis, matrix in enumerate(matrices):
        if matrix is not None:
            x = np.moveaxis(np.tensordot(matrix, x, axes=(1, axis)), 0, axis)
    return x


def unfolded(x, axis):
    """x as a matrix with that axis as its rows."""
    return np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1) if x.size else np.zeros((x.shape[axis], 0))


def soap(
    theta,
    gradient,
    eta,
    steps,
    beta_1=0.95,
    beta_2=0.95,
    shampoo_beta=None,
    epsilon=1e-8,
    frequency=10,
    max_size=10000,
    weight_decay=0.0,
):
    """Adam in the eigenbasis of Shampoo's factors; the first gradient makes the basis, and only the decay acts.

    A scalar or vector, and an axis longer than max_size, keeps the identity for its basis.
    """
    shampoo_beta = beta_2 if shampoo_beta is None else shampoo_beta
    turned = [np.ndim(theta) >= 2 and size <= max_size for size in np.shape(theta)]
    factors = [np.zeros((size, size)) if turn else None for size, turn in zip(np.shape(theta), turned, strict=True)]
    bases = [None for _ in factors]
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        decay = eta(t) * weight_decay * theta
        if t > 1:
            k = t - 1
            back = [None if q is None else q.T for q in bases]
            m, v = ema(m, g, beta_1), ema(v, by_axis(g, back) ** 2, beta_2)
            step = by_axis(by_axis(m, back) / (np.sqrt(v) + epsilon), bases)
            theta = theta - eta(t) * np.sqrt(1 - beta_2**k) / (1 - beta_1**k) * step
        theta = theta - decay
        for axis, factor in enumerate(factors):
            if factor is None:
                continue
            rows = unfolded(g, axis)
            factors[axis] = factor = ema(factor, rows @ rows.T, shampoo_beta)
            if t == 1:
                bases[axis] = np.linalg.eigh(factor)[1][:, ::-1]
            elif (t - 1) % frequency == 0:
                turned_factor = factor @ bases[axis]
                order = np.argsort(-np.sum(bases[axis] * turned_factor, axis=0), kind="stable")
                v = np.take(v, order, axis)
                bases[axis] = np.linalg.qr(turned_factor[:, order])[0]
    return theta
