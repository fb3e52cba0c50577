"""Rules with one mistake each: a hyperparameter for another, a sign, or a term that is missing.

A mistake is made in the syntax tree of a function and lasts while the context of `made` does: its code is replaced, so
that everybody who calls the function runs the wrong one. The functions of a class are its methods that take `h`, as
`rule` does, and what these call in the modules of the optimizers.
"""

import ast
import inspect
import itertools
import re
import textwrap
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType


@dataclass(frozen=True)
class Mutant:
    """Its kind, in words where it is and what is changed there, and the code that the functions get."""

    kind: str
    change: str
    codes: dict[FunctionType, CodeType]

    @contextmanager
    def made(self):
        right = {function: function.__code__ for function in self.codes}
        try:
            for function, code in self.codes.items():
                function.__code__ = code
            yield
        finally:
            for function, code in right.items():
                function.__code__ = code


def mutants(cls):
    """Every mutant of a class."""
    trees = {function: tree_of(function) for function in functions(cls)}
    for one, other in exchangeable(cls, trees.values()):
        codes = {function: code_of(exchanged(tree, one, other), function) for function, tree in trees.items()}
        yield Mutant("exchange", f"{one} and {other} exchanged", codes)
    for function, tree in trees.items():
        for parent, name, place, node in children(tree):
            for kind, new in mistakes(node):
                put(parent, name, place, new)
                code = code_of(tree, function)
                put(parent, name, place, node)
                yield Mutant(kind, f"{function.__name__}: {ast.unparse(node)} -> {ast.unparse(new)}", {function: code})


def functions(cls):
    """Those in which a class computes its update."""
    found = [one for name in dir(cls) if takes_h(one := inspect.getattr_static(cls, name)) and is_rule(one)]
    for function in found:
        called = {one for one in callees(function, cls) if isinstance(one, FunctionType) and is_rule(one)}
        found += sorted(called - set(found), key=lambda one: one.__qualname__)
    return found


def takes_h(one):
    return isinstance(one, FunctionType) and list(inspect.signature(one).parameters)[:2] == ["self", "h"]


def is_rule(function):
    """Whether it belongs to an algorithm: written next to the classes, not in the core that runs them."""
    return function.__module__.startswith("keras_adaptive.") and ".core." not in function.__module__


def callees(function, cls):
    """What it names: a method of its class, or what its module or a module that it knows has under that name."""
    inside = {*function.__code__.co_varnames, *function.__code__.co_cellvars}
    known = {name: one for name, one in function.__globals__.items() if name not in inside}
    for node in ast.walk(tree_of(function)):
        if isinstance(node, ast.Name):
            yield known.get(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = cls if node.value.id == "self" else known.get(node.value.id)
            if owner is cls or isinstance(owner, ModuleType):
                yield inspect.getattr_static(owner, node.attr, None)


def tree_of(function):
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def code_of(tree, function):
    made = {}
    exec(compile(ast.fix_missing_locations(tree), inspect.getfile(function), "exec"), dict(function.__globals__), made)
    return made[function.__name__].__code__


# Two hyperparameters exchanged


def exchangeable(cls, trees):
    """Pairs of hyperparameters of which the class accepts the same values."""

    def kind(name):
        return re.sub(r"None or |\)|\]", "", cls.hyperparameters[name].accepted)

    nodes = [node for tree in trees for node in ast.walk(tree) if is_hyperparameter(node)]
    names = sorted({node.attr for node in nodes if node.attr in cls.hyperparameters})
    numbers = [name for name in names if "number" in kind(name)]
    return [pair for pair in itertools.combinations(numbers, 2) if kind(pair[0]) == kind(pair[1])]


def is_hyperparameter(node):
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "h"


def exchanged(tree, one, other):
    tree = deepcopy(tree)
    for node in ast.walk(tree):
        if is_hyperparameter(node):
            node.attr = {one: other, other: one}.get(node.attr, node.attr)
    return tree


# A sign or a term


def mistakes(node):
    """For a sum its signs and its terms, for a negative one without its sign."""
    match node:
        case ast.BinOp(left, ast.Add() | ast.Sub() as sign, right) if not joins_lists(node):
            added = isinstance(sign, ast.Add)
            yield "sign", ast.BinOp(left, ast.Sub() if added else ast.Add(), right)
            yield "term", left
            yield "term", right if added else ast.UnaryOp(ast.USub(), right)
        case ast.UnaryOp(ast.USub(), operand) if not is_place(operand):
            yield "sign", operand


def joins_lists(node):
    return any(isinstance(one, ast.List | ast.Tuple | ast.ListComp) for one in (node.left, node.right))


def is_place(node):
    """Whether it is the number of an axis, counted from the end."""
    return isinstance(node, ast.Constant) and isinstance(node.value, int)


def children(tree):
    """Every node with the place where it stands."""
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            for place, node in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(node, ast.AST):
                    yield parent, name, place if isinstance(value, list) else None, node


def put(parent, name, place, node):
    if place is None:
        setattr(parent, name, node)
    else:
        getattr(parent, name)[place] = node
