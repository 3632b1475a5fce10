"""Find the source a running function was made from, and nothing that merely stands in its place now.

`inspect.getsource` returns the text that is in the file today, while the process may still run yesterday's.
So a text counts only if it compiles to the code that runs, and what was found is kept for that code object.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import symtable
import sys
from dataclasses import dataclass
from functools import cached_property
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Definition", "definition_of", "function_codes", "same_code"]

_Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

# Methods that change a list, dict, set or deque in place.
_MUTATORS = frozenset(
    ("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft")
) | {"remove", "setdefault", "sort", "update"}


@dataclass(frozen=True, slots=True)
class Definition:
    """What a function or class says, freed of layout.

    Attributes
    ----------
    text
        Its syntax tree without positions, docstrings, type hints, its own name and our decorator.
    chains
        The global and closed-over names it loads, each with the attributes asked of it, in order:
        ``("np", "linalg", "norm")``.
    state
        Names it assigns to or changes in place: memory of the running code, not constants.
    """

    text: object
    chains: tuple[tuple[str, ...], ...]
    state: frozenset[str]


class _File:
    """One text of one file, parsed and compiled when first asked."""

    def __init__(self, filename: str, text: str) -> None:
        self.filename, self.text = filename, text

    @cached_property
    def nodes(self) -> dict[str, list[_Node]]:
        found: dict[str, list[_Node]] = {}
        for qualname, node in _named_nodes(ast.parse(self.text), ""):
            found.setdefault(qualname, []).append(node)
        return found

    @cached_property
    def codes(self) -> dict[tuple[str, int], list[CodeType]]:
        # A notebook compiles the statements of a cell one by one, and CPython calls a method of a module otherwise
        # where it sees the module imported.
        tree = ast.parse(self.text)
        found: dict[tuple[str, int], list[CodeType]] = {}
        for source in (tree, *(ast.Module([node], []) for node in tree.body)):
            for code in _nested_codes(compile(source, self.filename, "exec", dont_inherit=True)):
                found.setdefault((code.co_qualname, code.co_firstlineno), []).append(code)
        return found

    def runs(self, code: CodeType) -> bool:
        """Tell whether this text compiles to `code`."""
        return any(same_code(mine, code) for mine in self.codes.get((code.co_qualname, code.co_firstlineno), ()))


_files: dict[str, _File] = {}
_known: WeakKeyDictionary[CodeType | type, Definition | None] = WeakKeyDictionary()


def definition_of(target: FunctionType | type) -> Definition | None:
    """Return the definition of a function or class, or ``None`` where its running source cannot be had."""
    key = target.__code__ if isinstance(target, FunctionType) else target
    if key not in _known:
        node = _function_node(target.__code__) if isinstance(target, FunctionType) else _class_node(target)
        _known[key] = None if node is None else _define(node, _free_names(target), _globals_of(target))
    return _known[key]


def function_codes(cls: type) -> list[CodeType]:
    """Return the code of the functions, properties and methods written in a class body."""
    codes = []
    for member in vars(cls).values():
        parts = (member.fget, member.fset) if isinstance(member, property) else (member,)
        for part in parts:
            function = getattr(part, "__func__", part)
            function = inspect.unwrap(function) if callable(function) else None
            if isinstance(function, FunctionType) and function.__qualname__.startswith(cls.__qualname__ + "."):
                codes.append(function.__code__)
    return codes


def same_code(left: CodeType, right: CodeType) -> bool:
    """Tell whether two code objects do the same, wherever their lines stand."""
    names = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_argcount")
    if any(getattr(left, name) != getattr(right, name) for name in names):
        return False
    if (left.co_flags ^ right.co_flags) & ~annotations.compiler_flag:  # which a notebook keeps from cell to cell
        return False
    return len(left.co_consts) == len(right.co_consts) and all(
        same_code(a, b) if isinstance(a, CodeType) and isinstance(b, CodeType) else repr(a) == repr(b)
        for a, b in zip(left.co_consts, right.co_consts, strict=True)
    )


def _file(filename: str) -> _File | None:
    linecache.checkcache(filename)
    text = "".join(linecache.getlines(filename))
    if not text:
        return None
    held = _files.get(filename)
    if held is None or held.text != text:
        held = _files[filename] = _File(filename, text)
    return held


def _function_node(code: CodeType) -> _Node | None:
    file = _file(code.co_filename)
    try:
        if file is None or not file.runs(code):
            return None
        same_name = file.nodes.get(code.co_qualname, [])
        return next((node for node in same_name if _first_line(node) == code.co_firstlineno), None)
    except (SyntaxError, ValueError):  # the file was broken after it was imported
        return None


def _class_node(cls: type) -> _Node | None:
    codes = function_codes(cls)
    # What dataclasses and their like add to a class is generated and has no file.
    written = (code.co_filename for code in codes if _file(code.co_filename) is not None)
    filename = next(written, _globals_of(cls).get("__file__"))
    file = _file(filename) if isinstance(filename, str) else None
    try:
        if file is None or not all(file.runs(code) for code in codes if code.co_filename == filename):
            return None
        lines = [code.co_firstlineno for code in codes if code.co_filename == filename]
        for node in reversed(file.nodes.get(cls.__qualname__, [])):
            if all(_first_line(node) <= line <= (node.end_lineno or line) for line in lines):
                return node
    except (SyntaxError, ValueError):  # as above
        return None
    return None


def _named_nodes(node: ast.AST, prefix: str) -> Iterator[tuple[str, _Node]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield prefix + child.name, child
            yield from _named_nodes(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
            yield from _named_nodes(child, f"{prefix}{child.name}.<locals>.")
        else:
            yield from _named_nodes(child, prefix)


def _nested_codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested_codes(constant)


def _first_line(node: _Node) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _free_names(target: FunctionType | type) -> frozenset[str]:
    codes = [target.__code__] if isinstance(target, FunctionType) else function_codes(target)
    return frozenset(name for code in codes for name in code.co_freevars if name != "__class__")


def _globals_of(target: FunctionType | type) -> dict[str, Any]:
    if isinstance(target, FunctionType):
        return target.__globals__
    return vars(sys.modules[target.__module__]) if target.__module__ in sys.modules else {}


def _define(node: _Node, free: frozenset[str], namespace: dict[str, Any]) -> Definition:
    copy = ast.parse(ast.unparse(node)).body[0]
    assert isinstance(copy, _Node)
    copy.decorator_list = [item for item in copy.decorator_list if not _is_ours(item, namespace)]
    node = _Stripped().visit(copy)
    loaded, state = _outer_names(node, free)
    chains: dict[tuple[str, ...], None] = {}
    for chain in _chains(node):
        if chain[0] in loaded:
            chains[chain] = None
    state |= {name for name in _changed_in_place(node) if name in loaded}
    node.name = "_"
    return Definition(_dump(node), tuple(chains), frozenset(state))


def _is_ours(decorator: ast.expr, namespace: dict[str, Any]) -> bool:
    expression = decorator.func if isinstance(decorator, ast.Call) else decorator
    chain = _chain(expression)
    if chain is None:
        return False
    value = namespace.get(chain[0])
    for name in chain[1:]:
        value = getattr(value, name, None)
    return chain[-1] == "udf" or getattr(value, "__module__", None) == "lakehouse.features.udfs.udf"


class _Stripped(ast.NodeTransformer):
    """Drop type hints, unless a decorator may read them."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if not node.decorator_list:
            node.returns = None
            given = node.args
            for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg):
                if argument is not None:
                    argument.annotation = None
        return self.generic_visit(node)


def _outer_names(node: _Node, free: frozenset[str]) -> tuple[set[str], set[str]]:
    # Inside a function that binds the free names, the compiler's own scoping tells globals from locals.
    wrapper = ast.parse(f"def _({', '.join(sorted(free))}): pass").body[0]
    assert isinstance(wrapper, ast.FunctionDef)
    wrapper.body = [node]
    source = ast.unparse(ast.fix_missing_locations(wrapper))
    loaded: set[str] = set()
    state: set[str] = set()
    scopes = [symtable.symtable(source, "<definition>", "exec").get_children()[0]]
    while scopes:
        scope = scopes.pop()
        scopes.extend(scope.get_children())
        for symbol in scope.get_symbols():
            name = symbol.get_name()
            outer = symbol.is_global() or (name in free and symbol.is_free())
            if outer and symbol.is_referenced():
                loaded.add(name)
            if outer and symbol.is_assigned():
                state.add(name)
    return loaded, state


def _chains(node: ast.AST) -> Iterator[tuple[str, ...]]:
    chain = _chain(node)
    if chain is not None:
        yield chain
        return
    for child in ast.iter_child_nodes(node):
        yield from _chains(child)


def _chain(node: ast.AST) -> tuple[str, ...] | None:
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        before = _chain(node.value)
        return None if before is None else (*before, node.attr)
    return None


def _changed_in_place(node: ast.AST) -> Iterator[str]:
    for child in ast.walk(node):
        if isinstance(child, ast.Subscript) and not isinstance(child.ctx, ast.Load):
            chain = _chain(child.value)
        elif isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr in _MUTATORS:
            chain = _chain(child.func.value)
        else:
            continue
        if chain is not None:
            yield chain[0]


def _dump(node: object) -> object:
    # Not `ast.dump`: what it prints for empty fields differs between Python versions.
    if isinstance(node, ast.Constant):
        return ["Constant", type(node.value).__name__, repr(node.value)]
    if isinstance(node, ast.AST):
        fields = {name: _dump(value) for name, value in ast.iter_fields(node) if name not in ("ctx", "type_comment")}
        return [
            type(node).__name__,
            {name: value for name, value in fields.items() if value not in (None, [])},
        ]
    if isinstance(node, list):
        return [_dump(item) for item in node if not _does_nothing(item)]
    return node


def _does_nothing(node: object) -> bool:
    # Docstrings of modules, classes, functions and attributes are such statements.
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
