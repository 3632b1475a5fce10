"""What stands for functions whose source is not to be had: lambdas, `exec`, ``python -c``, files edited since."""

from __future__ import annotations

import dis
from types import CodeType
from typing import TYPE_CHECKING

from lakehouse.features.udfs.sourcecode import Definition

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["bytecode_definition"]


def bytecode_definition(codes: Iterable[CodeType]) -> Definition:
    """Return the definition that code objects amount to; it differs between Python versions."""
    codes = list(codes)
    return Definition(["bytecode", [_dump(code) for code in codes]], *_chains(codes))


def _dump(code: CodeType) -> object:
    constants = [_dump(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts]
    names = [code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars]
    return [code.co_code.hex(), constants, [list(each) for each in names], code.co_argcount, code.co_flags]


def _chains(codes: Iterable[CodeType]) -> tuple[tuple[tuple[str, ...], ...], frozenset[str]]:
    chains: dict[tuple[str, ...], None] = {}
    state: set[str] = set()
    waiting = [(code, frozenset(code.co_freevars)) for code in codes]
    while waiting:
        code, free = waiting.pop(0)
        waiting.extend((item, free) for item in code.co_consts if isinstance(item, CodeType))
        chain: tuple[str, ...] = ()
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_ATTR", "LOAD_METHOD") and chain:
                chain = (*chain, step.argval)
                continue
            if chain:
                chains[chain] = None
            outer = step.opname in ("LOAD_GLOBAL", "LOAD_NAME") or (step.opname == "LOAD_DEREF" and step.argval in free)
            chain = (step.argval,) if outer else ()
            if step.opname == "STORE_GLOBAL":
                state.add(step.argval)
    return tuple(chains), frozenset(state)
