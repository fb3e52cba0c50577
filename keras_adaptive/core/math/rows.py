"""Gradients of some rows of a table."""

from typing import Any, NamedTuple

from keras import ops


class Rows(NamedTuple):
    """The gradient of some rows of a table, for an update of these rows alone.

    Attributes:
        ids: ids of the rows. Ids may repeat.
        values: for each id the gradient of its row, so equal ids have equal values.
        first: 1 for the first occurrence of each row, 0 for the others.
        length: the number of elements of a row of the table; None if it is that of the values, which may have more.
    """

    ids: Any
    values: Any
    first: Any
    length: int | None = None

    @property
    def once(self):
        """The values with each row once and zeros for repeats, for norms."""
        return self.values * along_rows(self.first, self.values)


class Lookups(NamedTuple):
    """The gradient of some rows of a table, with one entry for each time that a row was looked up.

    Attributes:
        ids: ids of the rows.
        values: the gradient of each entry. That of a row is the sum over all of its entries.
        order: the places of the entries, sorted by id.
    """

    ids: Any
    values: Any
    order: Any

    def rows(self) -> Rows:
        """Each row once, sorted by id. Then the first row repeats, because XLA has to know the number of rows."""
        number = ops.shape(self.ids)[0]
        ids = ops.take(self.ids, self.order, axis=0)
        begins = ops.concatenate([ops.ones_like(ids[:1], "int32"), ops.cast(ids[1:] != ids[:-1], "int32")])
        row = ops.cumsum(begins) - 1
        row_of_entry = ops.scatter(self.order[:, None], row, (number,))
        sums = ops.segment_sum(self.values, row_of_entry, num_segments=number)
        distinct = ops.segment_max(ids, row, num_segments=number)
        occurs = ops.arange(number, dtype="int32") <= row[-1:]
        return Rows(
            ops.where(occurs, distinct, ids[:1]),
            ops.where(along_rows(occurs, sums), sums, sums[:1]),
            ops.cast(occurs, self.values.dtype),
        )


class Norm(NamedTuple):
    """Replaces the `Lookups` of a gradient where only their norm is needed."""

    norm: Any


def measured(gradient):
    """A tensor with the norm of the gradient, which may be dense, `Lookups` or `Norm`."""
    if isinstance(gradient, Lookups):
        return gradient.rows().once
    return gradient.norm if isinstance(gradient, Norm) else gradient


def stretch(gradient, begin, end):
    """The gradient of the rows from `begin` to `end`, from a dense gradient."""
    values = gradient[begin:end]
    return Rows(ops.arange(begin, begin + len(values), dtype="int32"), values, ops.ones(len(values), values.dtype))


def along_rows(vector, tensor):
    """The vector, reshaped to be multiplied with the rows of the tensor."""
    return ops.reshape(vector, (-1, *[1] * (len(tensor.shape) - 1)))
