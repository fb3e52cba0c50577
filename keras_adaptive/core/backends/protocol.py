"""What the package needs of a backend: the few things that TensorFlow, JAX and torch do differently."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Backend(Protocol):
    """The functions of each backend's module.

    Attributes:
        HAS_ROWS: whether some rows of a table can be updated alone.
    """

    HAS_ROWS: bool

    def read(self, variable, ids=None) -> Any:
        """The value as a tensor, or those of its rows with these ids."""

    def assign(self, variable, value, ids=None) -> None:
        """Sets it, or these rows: ids may repeat, with equal values."""

    def is_variable(self, thing) -> bool:
        """A variable of Keras, or of the backend itself where that has some."""

    def accepted(self, gradient) -> Any:
        """The gradient in a form that the functions below know."""

    def is_sparse(self, gradient) -> bool:
        """A gradient that holds some rows only."""

    def fault_of_rows(self, gradient, shape: tuple[int, ...]) -> str | None:
        """What is wrong with its rows; None if nothing is known to be."""

    def is_symbolic(self, value) -> bool:
        """A tensor or variable that a traced program reads when it runs, not a value."""

    def rows_and_values(self, gradient) -> Any:
        """The ids and the values of those rows."""

    def occurrences(self, gradient) -> Any:
        """The ids of its rows, each as often as it was looked up; None if unknown."""

    def known_shape(self, gradient) -> tuple[int | None, ...] | None:
        """The shape, None for each length not known yet; None if nothing is."""

    def at_hand(self, tensor) -> Any:
        """The number in it; None while it is traced, or not in the host's memory."""

    def known(self, condition) -> Any:
        """True or False, or the tensor itself while it is traced."""

    def mapped(self, function: Callable, gradient) -> Any:
        """The function of every value that the gradient holds."""

    def is_accelerated(self) -> bool:
        """Whether there is any device but CPUs."""

    def is_compiling(self) -> bool:
        """Whether torch.compile traces the caller: it cannot ask Python's threads."""

    def check_context(self, optimizer) -> None:
        """Raises where the optimizer cannot be applied from here."""

    def sum_over_replicas(self, gradients: list) -> list:
        """List to list; the sum over all replicas, known to each."""

    def max_over_replicas(self, tensor) -> Any:
        """The same with the maximum."""

    def beside(self, variable) -> AbstractContextManager:
        """Context in which a slot of that variable is made."""

    def building(self) -> AbstractContextManager:
        """Context in which variables get their values at once, also while tracing."""

    def slot_layout(self, variable, shape: tuple[int, ...], shard: bool) -> Any:
        """The layout of a slot of that shape, laid over the data-parallel devices if `shard`; raises where that
        cannot be.
        """

    def matmul(self, a, b) -> Any:
        """The product of matrices in full precision of their dtype (on TensorFlow's GPU and TPU as its switch for
        TensorFloat-32 says).
        """

    def eigh(self, matrix) -> Any:
        """Eigenvalues and eigenvectors of symmetric matrices, in full precision of their dtype; NaN where the matrix
        is not finite.
        """

    def rarely(self, condition, function: Callable, usual) -> Any:
        """The function's value; unless the condition, a scalar, holds, it is the usual one, which is taken where a
        branch costs less than the function.
        """

    def jitted(self, cache, key, function: Callable) -> Callable:
        """The function, compiled where calling it op by op would be slower."""

    def transact(self, transaction, go, gradients: list, scalars: Mapping[str, Any]) -> None:
        """Reads, computes and assigns (core/step/transaction.py); nothing unless `go`."""

    def not_compiled(self, transaction) -> Mapping[int, str]:
        """By their places, the variables that jit_update=True asks to compile and that are updated operation by
        operation nevertheless: why, in words. Before the first step nothing is known.
        """

    def outside_of_steps(self, optimizer) -> AbstractContextManager:
        """Context in which variables are made and assigned at once, not in a step."""

    def snapshot(self, variable) -> Any:
        """Its value as a tensor that stays when the variable changes, outside of a step."""

    def assign_everywhere(self, target, source, projected=None) -> None:
        """A variable or tensor to a variable, on every replica, outside of a step; the function of it, if there is
        one.
        """

    def describe_in_checkpoints(self, optimizer, describe, check) -> None:
        """TensorFlow: tf.train.Checkpoint saves the bytes that `describe` returns, and calls `check` with them
        before it restores anything.
        """

    def undifferentiated(self, function: Callable) -> Callable:
        """The function, of which nothing is recorded to be differentiated."""

    def opaque(self, function: Callable) -> Callable:
        """The function, not to be rewritten by a tracer of source code."""
