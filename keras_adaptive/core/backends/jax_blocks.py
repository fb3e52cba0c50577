"""A Pallas kernel over blocks of rows, for a TPU (Mosaic) and for a GPU (Triton)."""

import importlib.util
import math
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.experimental import pallas

# The first version of JAX whose kernels have all operations of the updates, and in which they were tested.
OLDEST = (0, 10)
# Tests set it: then a kernel runs on a CPU.
INTERPRETED = False
# About how many elements a TPU loads together while it computes on those before, and how many it computes together: its
# program is as long as that, and takes time to compile.
LOADED, COMPUTED = 2**18, 2**15
# About how many elements a block has on a GPU, and how many of them a thread: they are in registers.
ON_GPU, OF_THREAD = 2**12, 16
# The shape of a tile of codes on a TPU, and the bytes of its memory that a kernel may take.
TILE, MOST_BYTES = (32, 128), 96 * 2**20


def exist(platform: str) -> bool:
    """Whether this version of JAX has these kernels for the kind of device."""
    if jax.__version_info__ < OLDEST:
        return False
    # JAX says that it will remove Triton.
    has_triton = importlib.util.find_spec("jax.experimental.pallas.triton") is not None
    return platform == "tpu" or (platform == "gpu" and has_triton)


class Blocks:
    """Blocks of rows of arrays with two axes, of which the second has `length` elements, or one.

    Args:
        platform: the kind of device, as JAX names it.
        count, length: the numbers of rows, and of elements in a row.

    Attributes:
        computed, loaded: how many rows are computed and loaded together.
        width: the length of a row of a block. On a GPU it is a power of two, and the row's first element fills it up.
    """

    def __init__(self, platform: str, count: int, length: int):
        self.on_tpu, self.count, self.length = platform == "tpu", count, length
        if self.on_tpu:
            self.width = length
            self.computed = min(TILE[0] * max(1, COMPUTED // (TILE[0] * length)), count)
            self.loaded = self.computed * max(1, min(LOADED // length, count) // self.computed)
        else:
            self.width = 2 ** math.ceil(math.log2(length))
            self.computed = self.loaded = max(1, ON_GPU // self.width)

    def block(self, x):
        """The shape and dtype of what is computed together, for one of the arrays."""
        return jax.ShapeDtypeStruct((self.computed, 1 if x.shape[1] == 1 else self.width), x.dtype)

    def ids(self, first):
        """The numbers of the rows that are computed together."""
        return first + jnp.arange(self.computed, dtype="int32")

    def mapped(self, function, numbers, arrays, written):
        """The new values of some of the arrays, each in the memory of the old one.

        Args:
            function: from the numbers, the ids of rows, and these rows of each array, to the rows of the new values.
            numbers: scalars.
            arrays: the arrays.
            written: the places of those that get new values.
        """
        specified = self._on_tpu if self.on_tpu else self._on_gpu
        return pallas.pallas_call(
            out_shape=[jax.ShapeDtypeStruct(arrays[place].shape, arrays[place].dtype) for place in written],
            grid=(pallas.cdiv(self.count, self.loaded),),
            input_output_aliases={len(numbers) + place: out for out, place in enumerate(written)},
            interpret=INTERPRETED,
            **specified(function, len(numbers), arrays, written),
        )(*(jnp.reshape(number, (1,)) for number in numbers), *arrays)

    def _on_tpu(self, function, count, arrays, written) -> dict[str, Any]:
        from jax.experimental.pallas import tpu

        # A TPU counts in 32 bits, also if JAX's integers have 64.
        zero, loaded, computed = map(np.int32, (0, self.loaded, self.computed))

        def kernel(*refs):
            numbers, old, new = _parted(refs, count, len(arrays))
            begin = pallas.program_id(0) * loaded

            def compute(part, _):
                at = pallas.ds(part * computed, self.computed), slice(None)
                ids = self.ids(begin + part * computed)
                rows = function(*(ref[0] for ref in numbers), ids, *(ref[at] for ref in old))
                for ref, x in zip(new, rows, strict=True):
                    ref[at] = x

            with jax.enable_x64(False):
                jax.lax.fori_loop(zero, loaded // computed, compute, None)

        number = pallas.BlockSpec((1,), lambda place: (zero,), memory_space=tpu.SMEM)
        blocks = [pallas.BlockSpec((self.loaded, x.shape[1]), lambda place: (place, zero)) for x in arrays]
        return {
            "kernel": kernel,
            "in_specs": [*[number] * count, *blocks],
            "out_specs": [blocks[place] for place in written],
            "compiler_params": tpu.CompilerParams(dimension_semantics=("parallel",), vmem_limit_bytes=MOST_BYTES),
        }

    def _on_gpu(self, function, count, arrays, written) -> dict[str, Any]:
        from jax.experimental.pallas import triton

        def kernel(*refs):
            ids = self.ids(pallas.program_id(0) * self.loaded)
            rows = ids[:, None]

            def columns(x):
                width = 1 if x.shape[1] == 1 else self.width
                return jnp.arange(width, dtype="int32")[None, :]

            def there(x):
                return (rows < self.count) & (columns(x) < x.shape[1])

            def loaded(ref):
                zero = jnp.zeros((), ref.dtype)
                x = triton.load(ref.at[rows, columns(ref)], mask=there(ref), other=zero)
                if ref.shape[1] in (1, self.width):
                    return x
                # Zeros could be no valid operands of the rule, and would then spoil the scale.
                first = ref.at[rows, jnp.zeros((1, 1), "int32")]
                return jnp.where(there(ref), x, triton.load(first, mask=rows < self.count, other=zero))

            numbers, old, new = _parted(refs, count, len(arrays))
            of_rows = function(*(ref[0] for ref in numbers), ids, *map(loaded, old))
            for ref, x in zip(new, of_rows, strict=True):
                triton.store(ref.at[rows, columns(ref)], x, mask=there(ref))

        threads = max(32, self.loaded * self.width // OF_THREAD)
        return {"kernel": kernel, "compiler_params": triton.CompilerParams(num_warps=min(32, threads // 32))}


def _parted(refs, numbers, arrays):
    return refs[:numbers], refs[numbers : numbers + arrays], refs[numbers + arrays :]
