"""What several twins share."""

import numpy as np


def ema(average, x, beta):
    """The exponential moving average with one more value."""
    return beta * average + (1 - beta) * x


def debias(average, beta, t):
    """The average after t values without its start at zero."""
    return average / (1 - beta**t)


def mean(x, axis=None):
    """The mean with the axes kept, and zero where there is nothing to average."""
    return np.mean(x, axis=axis, keepdims=True) if np.size(x) else np.sum(x, axis=axis, keepdims=True)


def rms(x):
    return np.sqrt(np.sum(x**2) / max(np.size(x), 1))


def cautious(u, g):
    """Only what agrees with the gradient, and more of it; the paper's form, with + 1 below."""
    mask = (u * g > 0).astype("float64")
    return u * mask * np.size(u) / (np.sum(mask) + 1)


def norm(*arrays):
    """The Euclidean norm over all elements of all of them."""
    return np.sqrt(sum(np.sum(x**2) for x in arrays))
