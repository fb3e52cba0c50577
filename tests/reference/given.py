"""Fixed gradients, for tests of one step and for comparing algorithms step by step."""

import numpy as np


class Given:
    """Gradients that do not depend on the variable, so that two algorithms see the same."""

    def __init__(self, shape, seed=41, steps=20, scale=1.0):
        rng = np.random.default_rng(seed)
        self.start = rng.normal(size=shape)
        self.pushes = scale * rng.normal(size=(steps + 1, *shape))

    def __call__(self, t, theta):
        return self.pushes[t]

    def path(self, twin, steps, eta=lambda t: 0.1, **arguments):
        """The variable after 0, 1, 2, ... steps."""
        return [twin(self.start, self, eta, n, **arguments) for n in range(steps + 1)]

    def moves(self, twin, steps, **arguments):
        return np.diff(self.path(twin, steps, **arguments), axis=0)
