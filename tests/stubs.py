"""Writes keras_adaptive/__init__.pyi, the signatures that editors and type checkers read, from the fields.

python tests/stubs.py
"""

import ast
import inspect
import re
from pathlib import Path
from typing import get_args

import keras

import keras_adaptive
from keras_adaptive.core.optimizer import AdaptiveOptimizer

PACKAGE = Path(keras_adaptive.__file__).parent
TARGET = PACKAGE / "__init__.pyi"
HEAD = '''"""Written by `python tests/stubs.py` from the fields of the classes; do not edit."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

'''
SCHEDULE = keras.optimizers.schedules.LearningRateSchedule


def is_algorithm(item) -> bool:
    return inspect.isclass(item) and issubclass(item, AdaptiveOptimizer) and item is not AdaptiveOptimizer


def imports() -> list[str]:
    """The imports of `__init__.py` that are not of algorithms, so that type checkers see them as public."""
    lines = []
    for node in ast.walk(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names if not is_algorithm(getattr(keras_adaptive, alias.name))]
            lines += [f"from {node.module} import {name} as {name}" for name in names]
    return lines


def written(kind) -> str:
    """A type as the stub has it. Keras has no types, so that its schedules would be of any."""
    if kind is SCHEDULE:
        return "Callable[[Any], Any]"
    if get_args(kind) and SCHEDULE in get_args(kind):
        return " | ".join(written(part) for part in get_args(kind))
    text = inspect.formatannotation(kind)
    text = re.sub(r"\b(?:typing|collections\.abc)\.|\bkeras_adaptive\.(?:\w+\.)+", "", text)
    text = re.sub(r"Optional\[(.*)\]$", r"Union[\1, None]", text).replace("NoneType", "None")
    return re.sub(r"Union\[(.*)\]$", _joined, text)


def _joined(found) -> str:
    """Union[A, B[c, d]] as A | B[c, d]."""
    parts, depth = [""], 0
    for character in found[1]:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return " | ".join(part.strip() for part in parts)


def constructor(cls) -> str:
    """One line: with a line for each argument, the file would be thousands of lines long."""
    parameters = ["self"]
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        default = "..." if parameter.default in (float("inf"),) else repr(parameter.default).replace("'", '"')
        parameters.append(f"{parameter.name}: {written(parameter.annotation)} = {default}")
    return f"    def __init__({', '.join(parameters)}) -> None: ..."


def stub() -> str:
    lines = [*imports(), ""]
    for name in keras_adaptive.__all__:
        item = getattr(keras_adaptive, name)
        if is_algorithm(item):
            lines += [f"class {name}(AdaptiveOptimizer):", constructor(item), ""]
    return HEAD + "\n".join([*lines, "__all__: list[str]", "__version__: str", ""])


if __name__ == "__main__":
    TARGET.write_text(stub(), encoding="utf-8")
