"""What the package needs from a backend: the few things that TensorFlow, JAX and torch do differently."""

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
        """The value as a tensor, or the rows with these ids."""

    def assign(self, variable, value, ids=None) -> None:
        """Sets the variable, or these rows: ids may repeat, with equal values."""

    def is_variable(self, thing) -> bool:
        """Whether it is a variable of Keras, or of the backend if that has its own."""

    def accepted(self, gradient) -> Any:
        """The gradient in a form that the functions below accept."""

    def is_sparse(self, gradient) -> bool:
        """Whether the gradient holds only some rows."""

    def fault_of_rows(self, gradient, shape: tuple[int, ...]) -> str | None:
        """What is wrong with its rows; None if nothing is known to be wrong."""

    def is_symbolic(self, value) -> bool:
        """Whether it is a tensor or variable that a traced program reads when it runs, not a value."""

    def rows_and_values(self, gradient) -> Any:
        """The ids and the values of the rows of a sparse gradient."""

    def lookups(self, gradient, rows: int) -> Any:
        """The same, for an update of these rows alone, of a table with so many rows. If each step may have another
        number of ids, entries of zeros are added at the first id, so that programs are compiled for few numbers.
        """

    def occurrences(self, gradient) -> Any:
        """The ids of its rows, each as often as it was looked up; None if unknown."""

    def known_shape(self, gradient) -> tuple[int | None, ...] | None:
        """The shape, with None for each length that is not known yet; None if nothing is known."""

    def at_hand(self, tensor) -> Any:
        """The number in the tensor; None while it is traced, or if it is not in the host's memory."""

    def known(self, condition) -> Any:
        """True or False, or the tensor itself while it is traced."""

    def mapped(self, function: Callable, gradient) -> Any:
        """The function applied to every value in the gradient."""

    def is_accelerated(self) -> bool:
        """Whether there is any device other than CPUs."""

    def is_compiling(self) -> bool:
        """Whether torch.compile traces the caller, which then cannot use Python's threading module."""

    def check_context(self, optimizer) -> None:
        """Raises if the optimizer cannot be applied in this context."""

    def sum_over_replicas(self, gradients: list) -> list:
        """The sums over all replicas, on every replica; a list for a list."""

    def max_over_replicas(self, tensor) -> Any:
        """The maximum over all replicas, on every replica."""

    def beside(self, variable) -> AbstractContextManager:
        """Context in which a slot of that variable is made."""

    def building(self) -> AbstractContextManager:
        """Context in which new variables get their values at once, also while tracing."""

    def slot_layout(self, variable, shape: tuple[int, ...], shard: bool) -> Any:
        """The layout of a slot of that shape; with `shard` it is sharded over the data-parallel devices. Raises if
        that is not possible.
        """

    def matmul(self, a, b) -> Any:
        """The product of matrices in full precision of their dtype (with TensorFlow on GPU and TPU as its setting for
        TensorFloat-32 says).
        """

    def eigh(self, matrix) -> Any:
        """Eigenvalues and eigenvectors of symmetric matrices, in full precision of their dtype; NaN for a matrix that
        is not finite.
        """

    def rarely(self, condition, function: Callable, usual) -> Any:
        """The function's value if the condition, a scalar, holds, else a value equal to `usual`. Where a branch costs
        more than the function, the function is always called.
        """

    def multiplies_bfloat16(self) -> bool:
        """Whether the device multiplies matrices of bfloat16 faster than those of float32."""

    def stacks(self) -> bool:
        """Whether a rule that multiplies matrices is called once for several variables: it pays on a GPU, and where
        several devices divide the matrices.
        """

    def divided(self, function: Callable, *tensors) -> Any:
        """The function of tensors that have one matrix for each place of a first axis. On JAX the places are divided
        among the data-parallel devices.
        """

    def jitted(self, cache, key, function: Callable) -> Callable:
        """The function, compiled if calling it operation by operation would be slower."""

    def transact(self, transaction, go, gradients: list, scalars: Mapping[str, Any]) -> None:
        """Reads, computes and assigns (core/step/transaction.py); does nothing unless `go`."""

    def not_compiled(self, transaction) -> Mapping[int, str]:
        """With jit_update=True, why variables are still updated operation by operation, by the place of the variable.
        It is empty before the first step.
        """

    def outside_of_steps(self, optimizer) -> AbstractContextManager:
        """Context in which variables are made and assigned at once, not in a step."""

    def snapshot(self, variable) -> Any:
        """Its value as a tensor that does not change with the variable; outside of a step."""

    def assign_everywhere(self, target, source, projected=None) -> None:
        """Assigns a variable or tensor, or `projected` of it, to the target on every replica; outside of a step."""

    def describe_in_checkpoints(self, optimizer, describe, check) -> None:
        """TensorFlow: tf.train.Checkpoint saves the bytes from `describe`, and calls `check` with them before it
        restores anything.
        """

    def undifferentiated(self, function: Callable) -> Callable:
        """The function, not recorded for differentiation."""

    def opaque(self, function: Callable) -> Callable:
        """The function, excluded from tracers that rewrite source code."""
