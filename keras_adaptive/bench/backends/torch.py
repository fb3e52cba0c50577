"""Updates under torch, which runs them eagerly."""

import inspect
from collections.abc import Callable

import torch

from keras_adaptive.bench.backends import process

FORMS = {"in fit": False}
# The device that Keras chooses.
_CUDA = torch.cuda.is_available()
_DEVICE = "cuda" if _CUDA else "cpu"


class Update:
    def __init__(self, step, optimizer=None):
        self.step, self.optimizer = torch.no_grad()(step), optimizer

    def __call__(self):
        self.several(1)()

    def several(self, count):
        def run():
            for _ in range(count):
                self.step()
            if _CUDA:
                torch.cuda.synchronize()

        return run

    @property
    def state_bytes(self):
        kept = [value for of_one in self.optimizer.state.values() for value in of_one.values()]
        return sum(value.nbytes for value in kept if torch.is_tensor(value))

    def extra_bytes(self):
        if not _CUDA:
            return process.extra_bytes(self)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self()
        return torch.cuda.max_memory_allocated() - before


def device():
    return torch.cuda.get_device_name() if _CUDA else process.processor()


def gradient(shape, seed):
    return torch.randn(shape, generator=torch.Generator(_DEVICE).manual_seed(seed), device=_DEVICE)


def gradient_of_rows(shape, ids, seed):
    values = gradient((len(ids), *shape[1:]), seed)
    return torch.zeros(shape, device=_DEVICE).index_add_(0, torch.tensor(ids, device=_DEVICE), values)


def update(optimizer, variables, gradients, jit_compile):
    return Update(lambda: optimizer.apply(gradients, variables))


def other_library(name):
    if name not in _TORCH:
        return None
    return "torch.optim, fused" if _is_fused(_TORCH[name][0]) else "torch.optim"


def _is_fused(cls):
    # The fused Adagrad exists for CPUs only.
    return "fused" in inspect.signature(cls).parameters and not (_CUDA and cls is torch.optim.Adagrad)


def other(name, settings, variables, gradients):
    cls, arguments = _TORCH[name]
    parameters = [torch.nn.Parameter(v.value.detach().clone()) for v in variables]
    for parameter, of_one in zip(parameters, gradients, strict=True):
        parameter.grad = of_one
    optimizer = cls(parameters, **arguments(**settings), **({"fused": True} if _is_fused(cls) else {}))
    return Update(optimizer.step, optimizer)


def triad(elements):
    a, b = (torch.ones(elements, device=_DEVICE) for _ in range(2))
    return Update(lambda: a.add_(b, alpha=0.5))


def _adam(learning_rate, beta_1, beta_2, weight_decay, **_):
    return {"lr": learning_rate, "betas": (beta_1, beta_2), "weight_decay": weight_decay}


def _momentum(learning_rate, momentum, nesterov, **_):
    return {"lr": learning_rate, "momentum": momentum, "nesterov": nesterov}


# By the name of our class: torch's class, and a function from the arguments of our class to those of torch's.
_TORCH: dict[str, tuple[type, Callable]] = {
    "Adadelta": (torch.optim.Adadelta, lambda learning_rate, rho, **_: {"lr": learning_rate, "rho": rho}),
    "Adagrad": (torch.optim.Adagrad, lambda learning_rate, **_: {"lr": learning_rate}),
    "Adam": (torch.optim.Adam, lambda **settings: {**_adam(**settings), "decoupled_weight_decay": True}),
    "AdamW": (torch.optim.AdamW, _adam),
    "Adamax": (torch.optim.Adamax, _adam),
    "Amsgrad": (torch.optim.Adam, lambda **settings: {**_adam(**settings), "amsgrad": True}),
    "Nadam": (torch.optim.NAdam, _adam),
    "RAdam": (torch.optim.RAdam, _adam),
    "RMSprop": (
        torch.optim.RMSprop,
        lambda learning_rate, rho, momentum, centered, **_: {
            "lr": learning_rate,
            "alpha": rho,
            "momentum": momentum,
            "centered": centered,
        },
    ),
    "SGD": (torch.optim.SGD, _momentum),
}
# Older versions of torch do not have these.
if hasattr(torch.optim, "Adafactor"):
    _TORCH["Adafactor"] = (torch.optim.Adafactor, lambda learning_rate, **_: {"lr": learning_rate})
if hasattr(torch.optim, "Muon"):
    _TORCH["Muon"] = (torch.optim.Muon, _momentum)
