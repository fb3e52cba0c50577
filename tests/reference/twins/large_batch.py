"""Algorithms for large batches. `weight_decay` is part of the rule in LARS, LAMB and MERIT, decoupled in CAME."""

import numpy as np

from .common import debias, ema, mean, norm, rms


def _ratio(above, below):
    """The quotient of two norms, or 1 if either is zero."""
    return above / below if above > 0 and below > 0 else 1.0


def lars(
    theta,
    gradient,
    eta,
    steps,
    momentum=0.9,
    trust_coefficient=0.001,
    form="sum",
    momentum_form="classic",
    exclude_vectors=True,
    weight_decay=1e-4,
):
    """The classic momentum sums whole steps; the popular one sums gradients, and the ratio is that of the sum."""
    excluded = exclude_vectors and np.ndim(theta) <= 1
    decay = 0.0 if excluded else weight_decay

    def local_rate(theta, x, decayed):
        size = norm(theta)
        below = norm(x) + decay * size if form == "sum" else norm(decayed)
        return 1.0 if excluded or size == 0 or below == 0 else trust_coefficient * size / below

    b = np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        decayed = g + decay * theta
        if momentum_form == "classic":
            b = momentum * b + eta(t) * local_rate(theta, g, decayed) * decayed
            theta = theta - b
        else:
            b = momentum * b + decayed
            theta = theta - eta(t) * local_rate(theta, b, b) * b
    return theta


def lamb(
    theta,
    gradient,
    eta,
    steps,
    beta_1=0.9,
    beta_2=0.999,
    epsilon=1e-6,
    use_bias_correction=True,
    phi_lower=0.0,
    phi_upper=None,
    exclude_vectors=True,
    weight_decay=0.01,
):
    """Adam's direction with the decay in it, made as long as the variable."""
    excluded = exclude_vectors and np.ndim(theta) <= 1
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m, v = ema(m, g, beta_1), ema(v, g**2, beta_2)
        m_hat, v_hat = (debias(m, beta_1, t), debias(v, beta_2, t)) if use_bias_correction else (m, v)
        u = m_hat / (np.sqrt(v_hat) + epsilon)
        if excluded:
            theta = theta - eta(t) * u
            continue
        u = u + weight_decay * theta
        size, length = norm(theta), norm(u)
        if size == 0 or length == 0:
            ratio = 1.0
        else:
            ratio = min(max(size, phi_lower), np.inf if phi_upper is None else phi_upper) / length
        theta = theta - eta(t) * ratio * u
    return theta


def came(
    theta,
    gradient,
    eta,
    steps,
    beta_1=0.9,
    beta_2=0.999,
    beta_3=0.9999,
    epsilon_1=1e-30,
    epsilon_2=1e-16,
    clip_threshold=1.0,
    weight_decay=0.0,
):
    """Factored over the two trailing axes; a variable with fewer axes has a full moment and no confidence."""
    factored = np.ndim(theta) >= 2
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    if factored:
        row, column = mean(v, -1), mean(v, -2)
        row_of_residual, column_of_residual = row, column
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        square = g**2 + epsilon_1
        if factored:
            row, column = ema(row, mean(square, -1), beta_2), ema(column, mean(square, -2), beta_2)
            v = row * column / mean(row, -2)
        else:
            v = ema(v, square, beta_2)
        u = g / np.sqrt(v)
        u = u / max(1, rms(u) / clip_threshold)
        m = ema(m, u, beta_1)
        update = m
        if factored:
            residual = (u - m) ** 2 + epsilon_2
            row_of_residual = ema(row_of_residual, mean(residual, -1), beta_3)
            column_of_residual = ema(column_of_residual, mean(residual, -2), beta_3)
            update = m / np.sqrt(row_of_residual * column_of_residual / mean(row_of_residual, -2))
        theta = theta - eta(t) * update - eta(t) * weight_decay * theta
    return theta


def merit(theta, gradient, eta, steps, beta_1=0.9, beta_2=0.999, epsilon=1e-6, weight_decay=0.0):
    """No package has it. A variable of more than two axes is a matrix with its last axis as the columns."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m, v = ema(m, g, beta_1), ema(v, g**2, beta_2)
        u = m / (np.sqrt(v) + epsilon) + weight_decay * theta
        if np.size(theta):
            u = np.clip(_merit_ratio(theta, u) * u, -1, 1)
        theta = theta - eta(t) * u
    return theta


def _merit_ratio(theta, u):
    if np.ndim(theta) <= 1:
        return _ratio(np.max(np.abs(theta)), np.max(np.abs(u)))
    w, a = (np.abs(x).reshape(-1, np.shape(x)[-1]) for x in (theta, u))
    ratio = np.ones_like(w)
    for i, j in np.ndindex(*w.shape):
        sizes = w[i].max(), a[i].max(), w[:, j].max(), a[:, j].max()
        if min(sizes) > 0:
            ratio[i, j] = max(sizes[0] / sizes[1], sizes[2] / sizes[3], w.max() / a.max())
    return ratio.reshape(np.shape(theta))


def cowclip(g, theta, counts, ratio=1.0, zeta=1e-5):
    """The clipped gradient of an embedding table. No package has it.

    The authors' code takes the count of a row that is not in the batch for 1; here its gradient is zero.
    """
    clipped = np.zeros_like(g)
    for i, count in enumerate(counts):
        least = np.sqrt(np.size(theta[i])) * zeta * ratio
        clip = ratio * max(norm(theta[i]), least) * count
        length = norm(g[i])
        clipped[i] = g[i] * min(1, clip / length) if length > 0 else g[i]
    return clipped
