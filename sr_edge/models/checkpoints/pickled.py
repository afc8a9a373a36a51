"""Reads a pickle as data: an interpreter of its opcodes that imports and calls nothing that the file names.

`torch.load(weights_only=True)` refuses every file whose hyper-parameters are objects, as those of Lightning are, and
it allocates whatever a file requests. Here a class or function becomes a `GlobalName`, an object of it an
`UnbuiltObject` that stores the arguments, and a tensor the description of `stored.py`. The format is that of the
standard library's `pickletools`, which also decodes the arguments of the opcodes.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from sr_edge.models.checkpoints.bounds import (
    COPY_AGAIN,
    MAX_NAME,
    MAX_PICKLE_OPCODES,
    SAVE_STATE_DICT,
    UnreadableCheckpoint,
    require_short,
    short_line,
)

Builders = Mapping[str, Callable[..., object]]

_MAPPINGS = {"collections.OrderedDict", "collections.Counter", "collections.defaultdict", "builtins.dict"}
_ARGUMENT_PUSHED = {
    "INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_NO_EFFECT = ("PROTO", "FRAME", "READONLY_BUFFER")
_DANGEROUS_MODULES = {
    "os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "runpy", "importlib", "pty", "ctypes", "code",
    "webbrowser", "commands", "popen2",
}  # fmt: skip
_DANGEROUS_BUILTINS = {"eval", "exec", "execfile", "compile", "open", "__import__", "breakpoint"}


@dataclass(frozen=True, eq=False, repr=False)
class GlobalName:
    """A class or function that a pickle refers to by name; it is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return short_line(f"{self.module}.{self.name}")


@dataclass(eq=False, repr=False)
class UnbuiltObject:
    """An object that is not constructed: the name of its class, and the values with which it would be constructed."""

    kind: str
    arguments: object = ()
    state: object = None
    items: dict[object, object] = field(default_factory=dict)
    elements: list[object] = field(default_factory=list)


class Interpreter:
    """Runs the opcodes of one pickle.

    Args:
        builders: replacements for the functions that rebuild tensors, by their full names.
        storage: returns the object for a persistent id, by which torch refers to the bytes of a tensor.
    """

    def __init__(self, builders: Builders, storage: Callable[[object], object]) -> None:
        self._builders = builders
        self._storage = storage
        self._stack: list[Any] = []  # any object that a file contains
        self._marked: list[list[Any]] = []
        self._memo: dict[int, object] = {}
        self._opcodes = 0

    def read(self, stream: IO[bytes]) -> object:
        """Reads the object of the pickle at the position of `stream`.

        Raises:
            UnreadableCheckpoint: it has too many opcodes, or would call a function that can execute code.
            Exception: any exception for a malformed pickle; the caller converts it.
        """
        for opcode, argument, _ in pickletools.genops(stream):
            self._count_operations(1)
            if opcode.name == "STOP":
                return self._stack.pop()
            self._step(opcode.name, argument)
        raise UnreadableCheckpoint("ends in the middle of its pickle", wanted="a whole pickle", remedy=COPY_AGAIN)

    def _count_operations(self, work: int) -> None:
        self._opcodes += work
        if self._opcodes > MAX_PICKLE_OPCODES:
            raise UnreadableCheckpoint(
                f"contains a pickle of more than {MAX_PICKLE_OPCODES:,} operations",
                found=self._opcodes,
                wanted=MAX_PICKLE_OPCODES,
                remedy=SAVE_STATE_DICT,
            )

    def _step(self, opcode: str, argument: Any) -> None:
        if opcode in _ARGUMENT_PUSHED:
            self._stack.append(argument)
        elif opcode not in _NO_EFFECT:
            step = getattr(self, f"_on_{opcode.lower()}", None)
            if step is None:
                raise UnreadableCheckpoint(
                    f"uses the pickle opcode {opcode}, which no checkpoint needs", found=opcode, remedy=SAVE_STATE_DICT
                )
            step(argument)

    def _pop_to_mark(self) -> list[Any]:
        above, self._stack = self._stack, self._marked.pop()
        return above

    def _on_none(self, _: object) -> None:
        self._stack.append(None)

    def _on_newtrue(self, _: object) -> None:
        self._stack.append(True)

    def _on_newfalse(self, _: object) -> None:
        self._stack.append(False)

    def _on_mark(self, _: object) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _on_pop(self, _: object) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_to_mark()

    def _on_pop_mark(self, _: object) -> None:
        self._pop_to_mark()

    def _on_dup(self, _: object) -> None:
        self._stack.append(self._stack[-1])

    def _on_put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _on_get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    _on_binput = _on_long_binput = _on_put
    _on_binget = _on_long_binget = _on_get

    def _on_memoize(self, _: object) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _on_empty_tuple(self, _: object) -> None:
        self._stack.append(())

    def _on_tuple1(self, _: object) -> None:
        self._stack[-1:] = [tuple(self._stack[-1:])]

    def _on_tuple2(self, _: object) -> None:
        self._stack[-2:] = [tuple(self._stack[-2:])]

    def _on_tuple3(self, _: object) -> None:
        self._stack[-3:] = [tuple(self._stack[-3:])]

    def _on_tuple(self, _: object) -> None:
        elements = self._pop_to_mark()
        self._stack.append(tuple(elements))

    def _on_empty_list(self, _: object) -> None:
        self._stack.append([])

    def _on_list(self, _: object) -> None:
        elements = self._pop_to_mark()
        self._stack.append(elements)

    # Sets become lists, since adding to a set hashes the elements, and hashing nested tuples can take exponential time.
    _on_empty_set = _on_empty_list
    _on_frozenset = _on_list

    def _on_empty_dict(self, _: object) -> None:
        self._stack.append({})

    def _on_dict(self, _: object) -> None:
        pairs = self._pop_to_mark()
        mapping: dict[object, object] = {}
        _set_items(mapping, pairs)
        self._stack.append(mapping)

    def _on_append(self, _: object) -> None:
        element = self._stack.pop()
        _elements_of(self._stack[-1]).append(element)

    def _on_appends(self, _: object) -> None:
        elements = self._pop_to_mark()
        _elements_of(self._stack[-1]).extend(elements)

    _on_additems = _on_appends

    def _on_setitem(self, _: object) -> None:
        pair = self._stack[-2:]
        del self._stack[-2:]
        _set_items(_items_of(self._stack[-1]), pair)

    def _on_setitems(self, _: object) -> None:
        pairs = self._pop_to_mark()
        _set_items(_items_of(self._stack[-1]), pairs)

    def _on_global(self, both: str) -> None:
        module, _, name = both.partition(" ")
        self._stack.append(_name(module, name))

    def _on_stack_global(self, _: object) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(_name(module, name) if type(name) is type(module) is str else GlobalName("?", "?"))

    def _on_reduce(self, _: object) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(self._call_result(function, arguments))

    _on_newobj = _on_reduce

    def _on_newobj_ex(self, _: object) -> None:
        self._stack.pop()
        self._on_reduce(_)

    def _on_obj(self, _: object) -> None:
        kind, *arguments = self._pop_to_mark()
        self._stack.append(self._call_result(kind, tuple(arguments)))

    def _on_inst(self, both: str) -> None:
        arguments = tuple(self._pop_to_mark())
        self._on_global(both)
        self._stack[-1] = self._call_result(self._stack[-1], arguments)

    def _on_build(self, _: object) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, UnbuiltObject):
            target.state = state

    def _on_persid(self, identity: str) -> None:
        self._stack.append(self._storage(identity))

    def _on_binpersid(self, _: object) -> None:
        self._stack.append(self._storage(self._stack.pop()))

    def _call_result(self, function: object, arguments: object) -> object:
        """The result of calling `function`: a mapping, the description of a tensor, or an `UnbuiltObject`."""
        if not isinstance(function, GlobalName) or not isinstance(arguments, tuple):
            return UnbuiltObject("an object")
        # Counted, since a tuple of a million elements can be the argument of a million calls.
        self._count_operations(len(arguments))
        full_name = str(function)
        if full_name in _MAPPINGS:
            return self._mapping(arguments)
        if full_name in self._builders:
            return self._builders[full_name](*arguments)
        if full_name == "torch._tensor._rebuild_from_type_v2":
            return self._call_result(*arguments[:3:2])
        _require_harmless(function)
        if function.module in ("copyreg", "copy_reg") and arguments and isinstance(arguments[0], GlobalName):
            return UnbuiltObject(str(arguments[0]), arguments[1:])
        return UnbuiltObject(full_name, arguments)

    def _mapping(self, arguments: tuple[object, ...]) -> dict[object, object]:
        """An OrderedDict or similar mapping, whose items may be given as one argument: as pairs, or as a mapping."""
        mapping: dict[object, object] = {}
        for argument in arguments:
            pairs = argument.items() if isinstance(argument, dict) else argument if isinstance(argument, list) else ()
            self._count_operations(len(pairs))
            for pair in pairs:
                if type(pair) not in (tuple, list) or len(pair) != 2:
                    raise UnreadableCheckpoint(
                        "fills a mapping with items that are not pairs", wanted="(key, value)", remedy=COPY_AGAIN
                    )
                _set_items(mapping, list(pair))
        return mapping


def _name(module: str, name: str) -> GlobalName:
    if len(module) + len(name) > MAX_NAME:
        raise UnreadableCheckpoint(
            f"names a class of more than {MAX_NAME:,} characters",
            found=len(module) + len(name),
            wanted=MAX_NAME,
            remedy=SAVE_STATE_DICT,
        )
    return GlobalName(module, name)


def _require_harmless(function: GlobalName) -> None:
    module = function.module.partition(".")[0]
    is_builtin = module in ("builtins", "__builtin__") and function.name in _DANGEROUS_BUILTINS
    if module in _DANGEROUS_MODULES or is_builtin:
        raise UnreadableCheckpoint(
            f"would call {function}, which can execute arbitrary code, so it was refused",
            found=str(function),
            wanted="tensors and plain values",
            remedy="do not load it anywhere, and get the weights from a source that you trust",
        )


def _items_of(target: object) -> dict[object, object]:
    if isinstance(target, UnbuiltObject):
        return target.items
    if isinstance(target, dict):
        return target
    raise UnreadableCheckpoint("sets items of an object that is not a mapping", wanted="a mapping", remedy=COPY_AGAIN)


def _elements_of(target: object) -> list[object]:
    if isinstance(target, UnbuiltObject):
        return target.elements
    if isinstance(target, list):
        return target
    raise UnreadableCheckpoint("appends to an object that is not a list", wanted="a list", remedy=COPY_AGAIN)


def _set_items(mapping: dict[object, object], pairs: list[object]) -> None:
    """Adds items. Keys other than plain values are skipped: they name no weights, and hashing them can be very slow."""
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        if isinstance(key, (str, bytes)):
            # Checked, since one long string can be the key of a million mappings, all of which are examined.
            require_short(key)
        if key is None or type(key) in (str, int, float, bool, bytes):
            mapping[key] = value
