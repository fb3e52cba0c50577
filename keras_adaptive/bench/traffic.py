"""The bytes that a compiled program moves between HBM and the chip, computed from its text."""

import math
import re

# These name, select or await the result of another instruction.
_MOVES_NOTHING = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id"}
# Between devices. As `-start`, their result holds the operands too.
_COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
# These read no more than they write.
_SLICES = {"slice", "slice-start", "dynamic-slice"}


def hbm_bytes(text):
    """The bytes that the instructions read and write, except in memory on the chip (layout S(1) is VMEM).

    For a conditional, the branch that moves most counts. An instruction that uses only part of an array counts the full
    array, except for slices that are read, or written in place, also in a fusion. So for a program that picks rows the
    result is an upper bound.

    Args:
        text: the text of the scheduled program.

    Raises:
        NotImplementedError: for a loop, or an unknown kind of transfer.
    """
    found = re.findall(r"^(ENTRY )?%([\w.-]+) \(.*\{\n((?:  .*\n)+)\}", text, re.MULTILINE)
    (entry,) = (name for is_entry, name, _ in found if is_entry)
    return _moved({name: body for _, name, body in found}, entry)


def collective_bytes(text) -> dict[str, int]:
    """The bytes of the results of all transfers between devices, for one device, by their kind.

    A transfer that the compiler spreads over several computations has the same channel in each, and counts once.
    """
    sizes: dict[tuple[str, str], int] = {}
    for kind, line in re.findall(rf"^(?=.* ({'|'.join(_COLLECTIVES)})(?:-start)?\()(  .*)$", text, re.MULTILINE):
        _, shape, opcode, operands, rest = _instruction(line)
        results = _sizes(shape)[len(operands) if opcode.endswith("-start") else 0 :]
        (channel,) = re.findall(r"channel_id=(\d+)", rest)
        sizes[kind, channel] = sum(results)
    found: dict[str, int] = {}
    for (kind, _), size in sizes.items():
        found[kind] = found.get(kind, 0) + size
    return found


def _moved(computations, name):
    total, shapes = 0, {}
    for line in computations[name].splitlines():
        target, shape, opcode, operands, attributes = _instruction(line)
        shapes[target] = shape
        if opcode in _MOVES_NOTHING or opcode.endswith("-done"):
            continue
        read, written = [_in_hbm(shapes[operand]) for operand in operands], _in_hbm(shape)
        if opcode == "fusion":
            (called,) = re.findall(r"calls=%([\w.-]+)", attributes)
            sliced, update = _slices_of(computations[called])
            read = [sliced.get(place, sizes) if any(sizes) else sizes for place, sizes in enumerate(read)]
            written = update if update and any(written) else written
        if opcode in ("conditional", "call"):
            called = re.findall(r"(?:branch_computations=\{|_computation=|to_apply=)([^}=]*)", attributes)
            total += max(_moved(computations, branch) for branch in re.findall(r"%([\w.-]+)", " ".join(called)))
        elif opcode in _SLICES:
            # The result of slice-start is ((source), destination, flag).
            place = int(opcode == "slice-start")
            total += written[place] + (_sizes(shape)[place] if read[0][0] else 0)
        elif opcode == "copy-start":
            # Its result is (destination, source, flag).
            total += written[0] + read[0][0]
        elif opcode.removesuffix("-start") in _COLLECTIVES:
            total += sum(written) if opcode.endswith("-start") else sum(written) + sum(map(sum, read))
        elif opcode == "while" or opcode.endswith("-start"):
            raise NotImplementedError(f"The bytes that this instruction moves are unknown: {line}")
        else:
            total += sum(written) + sum(map(sum, read))
    return total


def _slices_of(body) -> tuple[dict[int, list[int]], list[int]]:
    """What a fusion reads of those parameters of which it only needs slices, as sizes by the parameter's number.

    And the size of the slice that it writes, if its result is a parameter with that slice written in place.
    """
    numbers: dict[str, int] = {}
    shapes: dict[str, str] = {}
    read: dict[int, list[int]] = {}
    of_all: set[int] = set()
    written: list[int] = []
    for line in body.splitlines():
        target, shape, opcode, operands, _ = _instruction(line)
        shapes[target] = shape
        if opcode == "parameter":
            numbers[target] = int(line.partition("parameter(")[2].partition(")")[0])
        elif opcode == "bitcast" and operands[0] in numbers:
            numbers[target] = numbers[operands[0]]
        elif opcode == "dynamic-update-slice" and line.startswith("  ROOT") and operands[0] in numbers:
            read.setdefault(numbers[operands[0]], [])
            written = _sizes(shapes[operands[1]])
            of_all |= {numbers[operand] for operand in operands[1:] if operand in numbers}
        else:
            for number in (numbers[operand] for operand in operands if operand in numbers):
                if opcode in _SLICES:
                    read.setdefault(number, []).extend(_sizes(shape))
                else:
                    of_all.add(number)
    return {number: sizes for number, sizes in read.items() if number not in of_all}, written


def _instruction(line):
    """Name, shape, opcode, the operands' names, and the rest."""
    line = re.sub(r"/\*.*?\*/", "", line).removeprefix("  ").removeprefix("ROOT ")
    target, _, rest = line.removeprefix("%").partition(" = ")
    shape, rest = _balanced(rest) if rest.startswith("(") else rest.split(" ", 1)
    opcode = rest.lstrip().partition("(")[0]
    operands, attributes = _balanced(rest.lstrip().removeprefix(opcode))
    return target, shape, opcode, re.findall(r"%([\w.-]+)", operands), attributes


def _balanced(text):
    """Splits after the parenthesis that closes the first one."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[: place + 1], text[place + 1 :]
    raise ValueError(f"A parenthesis is not closed: {text}")


_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")


def _sizes(shape):
    """The bytes of each array of a shape."""
    return [
        math.prod(map(int, lengths.split(","))) * _bits(dtype) // 8 if lengths else _bits(dtype) // 8
        for dtype, lengths, _ in _ARRAY.findall(shape)
    ]


def _in_hbm(shape):
    """The bytes of each array of a shape; 0 for an array whose layout names another memory."""
    layouts = [layout for _, _, layout in _ARRAY.findall(shape)]
    return [0 if "S(" in layout else size for size, layout in zip(_sizes(shape), layouts, strict=True)]


def _bits(dtype):
    known = {"pred": 8, "token": 0}
    return known[dtype] if dtype in known else int(re.findall(r"\d+", dtype)[0])
