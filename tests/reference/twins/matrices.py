"""Algorithms that treat a variable as a matrix. `weight_decay` is decoupled; a Keras matrix has its outputs last."""

import numpy as np

from .common import debias, ema, mean, norm

# The Polar Express (arXiv:2505.16932), Algorithm 1, before the division by its safety factor.
POLAR_EXPRESS = [
    [8.28721201814563, -23.595886519098837, 17.300387312530933],
    [4.107059111542203, -2.9478499167379106, 0.5448431082926601],
    [3.9486908534822946, -2.908902115962949, 0.5518191394370137],
    [3.3184196573706015, -2.488488024314874, 0.51004894012372],
    [2.300652019954817, -1.6689039845747493, 0.4188073119525673],
    [1.891301407787398, -1.2679958271945868, 0.37680408948524835],
    [1.8750014808534479, -1.2500016453999487, 0.3750001645474248],
]


def newton_schulz(u, steps=5, coefficients="quintic"):
    """Muon's iteration: singular values near 1, not at 1."""
    wide, margin, last = (u.T if u.shape[0] > u.shape[1] else u), 1.0, (3.4445, -4.7750, 2.0315)
    polynomials = []
    if coefficients == "polar_express":
        margin, last = 1.01, (1.875, -1.25, 0.375)
        polynomials = [np.divide(p, [1.01, 1.01**3, 1.01**5]) for p in POLAR_EXPRESS]
    elif coefficients != "quintic":
        polynomials, last = coefficients, coefficients[-1]
    x = wide / (margin * norm(wide) + 1e-7)
    for step in range(steps):
        p, q, r = polynomials[step] if step < len(polynomials) else last
        a = x @ x.T
        x = p * x + (q * a + r * a @ a) @ x
    return x.T if u.shape[0] > u.shape[1] else x


def _scale(scale, shape):
    rows, columns = shape
    if scale == "moonlight":
        return 0.2 * np.sqrt(max(rows, columns))
    if scale == "spectral":
        return np.sqrt(columns / rows) if rows else 1.0
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
    second_moment=None,
    second_moment_beta=0.95,
    second_moment_epsilon=1e-8,
    scale="original",
    **given,
):
    """A matrix; any other variable goes to the companion, so give a kernel in its matrix view."""

    def adamuon(o, v):
        v = ema(v, o**2, second_moment_beta)
        a = o / (np.sqrt(v) + second_moment_epsilon)
        return 0.2 * np.sqrt(o.size) * a / (norm(a) + second_moment_epsilon), v

    if second_moment == "adamuon":
        return _orthogonal(theta, gradient, eta, steps, adamuon, 0.0, "moonlight", 1.0, **given)
    return _orthogonal(theta, gradient, eta, steps, lambda o, v: (o, v), 0.0, scale, **given)


def normuon(theta, gradient, eta, steps, beta_2=0.95, scale="original", **given):
    """Muon with a second moment for each column, the step as long as Muon's. No package has it in float64."""

    def divided(o, v):
        v = ema(v, mean(o**2, 0), beta_2)
        h = o / (np.sqrt(v) + 1e-8)
        return h * norm(o) / (norm(h) + 1e-8), v

    return _orthogonal(theta, gradient, eta, steps, divided, 0.0, scale, **given)


def _orthogonal(
    theta,
    gradient,
    eta,
    steps,
    divided,
    v,
    scale,
    factor=None,
    momentum=0.95,
    nesterov=True,
    newton_schulz_steps=5,
    coefficients="quintic",
    weight_decay=0.0,
    **companions,
):
    if np.ndim(theta) != 2:
        # The learning rate of "moonlight" is AdamW's.
        companions = {"companion_learning_rate_multiplier": 1.0 if scale == "moonlight" else 0.015} | companions
        return companion(theta, gradient, eta, steps, weight_decay=weight_decay, **companions)
    m = np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        m = ema(m, g, momentum)
        u = ema(m, g, momentum) if nesterov else m
        o, v = divided(newton_schulz(u, newton_schulz_steps, coefficients), v)
        s = _scale(scale, theta.shape) if factor is None else factor
        theta = theta - eta(t) * s * o - eta(t) * weight_decay * theta
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
