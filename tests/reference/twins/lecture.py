"""The lecture's four: twins with epsilon inside the root."""

import numpy as np


def sgd(theta, gradient, eta, steps, momentum=0.0, nesterov=False):
    velocity = np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        velocity = momentum * velocity + g
        direction = g + momentum * velocity if nesterov else velocity
        theta = theta - eta(t) * direction
    return theta


def adagrad(theta, gradient, eta, steps, epsilon=1e-16, epsilon_outside=0.0, initial_accumulator_value=0.0):
    total = np.full_like(theta, initial_accumulator_value)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        total = total + g**2
        theta = theta - eta(t) * g / (np.sqrt(total + epsilon) + epsilon_outside)
    return theta


def rmsprop(theta, gradient, eta, steps, rho=0.9, momentum=0.0, centered=False, epsilon=1e-16, epsilon_outside=0.0):
    second, first, velocity = (np.zeros_like(theta) for _ in range(3))
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        second = rho * second + (1 - rho) * g**2
        first = rho * first + (1 - rho) * g
        spread = np.maximum(second - first**2, 0) if centered else second
        velocity = momentum * velocity + g / (np.sqrt(spread + epsilon) + epsilon_outside)
        theta = theta - eta(t) * velocity
    return theta


def adam(theta, gradient, eta, steps, beta_1=0.9, beta_2=0.999, epsilon=0.0, epsilon_root=None):
    """Without an epsilon, the lecture's one inside the root."""
    if epsilon_root is None:
        epsilon_root = 0.0 if epsilon else 1e-16
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        first = beta_1 * first + (1 - beta_1) * g
        second = beta_2 * second + (1 - beta_2) * g**2
        mean, square = first / (1 - beta_1**t), second / (1 - beta_2**t)
        theta = theta - eta(t) * mean / (np.sqrt(square + epsilon_root) + epsilon)
    return theta
