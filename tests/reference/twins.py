"""NumPy float64 twins.

Each takes one variable's first value, `gradient(t, theta)`, `eta(t)` with t from 1, the number of steps and the
hyperparameters, and returns the variable's last value.
"""

import hashlib

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


def rmsprop(
    theta, gradient, eta, steps, rho=0.9, momentum=0.0, centered=False, epsilon=1e-16, epsilon_outside=0.0
):
    second, first, velocity = (np.zeros_like(theta) for _ in range(3))
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        second = rho * second + (1 - rho) * g**2
        first = rho * first + (1 - rho) * g
        spread = np.maximum(second - first**2, 0) if centered else second
        velocity = momentum * velocity + g / (np.sqrt(spread + epsilon) + epsilon_outside)
        theta = theta - eta(t) * velocity
    return theta


def adam(theta, gradient, eta, steps, beta_1=0.9, beta_2=0.999, epsilon=1e-16, epsilon_outside=0.0):
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    for t in range(1, steps + 1):
        g = gradient(t, theta)
        first = beta_1 * first + (1 - beta_1) * g
        second = beta_2 * second + (1 - beta_2) * g**2
        mean, square = first / (1 - beta_1**t), second / (1 - beta_2**t)
        theta = theta - eta(t) * mean / (np.sqrt(square + epsilon) + epsilon_outside)
    return theta


def rounding_bits(seed, index, role, t, shape):
    """The 16 random bits for each element, in uint32: rounding.py's definition has them in int32."""
    word = hashlib.sha256(f"{seed}/{index}/{role}".encode()).digest()
    first, second = (np.array([int.from_bytes(word[i : i + 4], "little")], "uint32") for i in (0, 4))

    def mixed(x, key):
        x = (x ^ x >> 16) * np.uint32(0x85EBCA6B)
        x = (x ^ x >> 13 ^ key) * np.uint32(0xC2B2AE35)
        return x ^ x >> 16

    start, key = mixed(first + np.uint32(t), np.uint32(0)), mixed(second + np.uint32(t), np.uint32(0))
    places = np.arange(np.prod(shape, dtype=int), dtype="uint32").reshape(shape)
    return (mixed(places + start, key) & np.uint32(0xFFFF)).astype("int64")
