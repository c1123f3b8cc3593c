"""YAML as this project reads it: what YAML 1.1 changes or drops silently is refused, with its line.

Only ``true`` and ``false`` are booleans, dates are text, and no key may be there twice. A number
that YAML 1.1 reads as octal or to base 60 is refused, or kept as it is written where text is meant.
(yaml.org, "YAML Version 1.1", and the YAML 1.2 core schema.)
"""

import re
from collections.abc import Iterator
from typing import Any, Literal

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from enginebench.base.errors import UserError

MOST_BYTES = 1 << 20
DEEPEST = 50  # levels, with what aliases lead to
LONGEST_NUMBER = 400  # characters
MOST_VALUES = 100_000  # with what aliases lead to

#: Where a number is text as it is written: below mappings under the key ``settings``, or anywhere.
WrittenText = Literal["settings", "everywhere"]

_TAG = "tag:yaml.org,2002:"
_NUMBERS = (f"{_TAG}int", f"{_TAG}float")
_TRAP = re.compile(r"[-+]?(0[0-7_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?)$")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


class _Trap(yaml.MarkedYAMLError):
    """YAML that we do not take; ``problem`` says what to do."""


class _Loader(yaml.SafeLoader):
    """Composes to a limited depth; reads booleans as YAML 1.2 does, and dates as text."""

    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _error(f"more than {DEEPEST} levels; nest less", self.peek_event())  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in (f"{_TAG}bool", f"{_TAG}timestamp", f"{_TAG}value")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    f"{_TAG}bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def parse(text: str, where: str, written_text: WrittenText) -> Any:
    """The document of a YAML text as plain data.

    Args:
        where: names its source in an error.
        written_text: where a number is kept as text wherever reading it would change how it is
            written: ``010`` stays ``"010"``, and ``8`` is still a number.

    Raises:
        UserError: not YAML, or with one of the traps; with the line.
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, is_text=written_text == "everywhere", seen={})
        return loader.construct_document(node)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found = f"the character U+{ord(text[error.position]):04X}"
        raise UserError(f"{where}:{line}: expected YAML, found {found}; remove it") from None
    except _Trap as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{where}:{line}: expected plain YAML, found {error.problem}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark else where
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(
            f"{place}: expected YAML, found: {' '.join(problem.split())[:200]}; correct that line"
        ) from None
    # What a tag such as !!int does to a text that is none; an unhashable key.
    except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"[:120]
        raise UserError(
            f"{where}: expected YAML of plain values, found one that its tag does not fit "
            f"({reason}); remove the tag"
        ) from None
    finally:
        if loader is not None:
            loader.dispose()


def _error(problem: str, node: Any) -> _Trap:
    return _Trap(problem=problem, problem_mark=node.start_mark)


def _check(
    node: Node, *, is_text: bool, seen: dict[tuple[int, bool], tuple[int, int] | None]
) -> tuple[int, int]:
    """Refuse the traps in a node and below it.

    An anchor stands before its aliases, so what they lead to was seen, or contains them.

    Returns:
        How many values and how many levels it has, with what aliases lead to.
    """
    key = (id(node), is_text)
    if key in seen:
        if (found := seen[key]) is None:
            raise _error("an alias inside its own anchor; remove it", node)
        return found
    seen[key] = None
    if isinstance(node, ScalarNode):
        _check_scalar(node, is_text)
    if isinstance(node, MappingNode):
        _check_keys(node)
    count, depth = 1, 1
    for child, child_is_text in _children(node, is_text):
        values, levels = _check(child, is_text=child_is_text, seen=seen)
        count, depth = count + values, max(depth, levels + 1)
        if count > MOST_VALUES or depth > DEEPEST:
            raise _error(
                f"more than {MOST_VALUES} values or {DEEPEST} levels, aliases followed",
                child,
            )
    seen[key] = count, depth
    return count, depth


def _children(node: Node, is_text: bool) -> Iterator[tuple[Node, bool]]:
    """What is directly inside a node, and whether a number there is text."""
    if isinstance(node, SequenceNode):
        for item in node.value:
            yield item, is_text
    if isinstance(node, MappingNode):
        for name, value in node.value:
            yield name, is_text
            is_settings = getattr(name, "value", None) == "settings"
            yield value, is_text or (is_settings and isinstance(value, MappingNode))


def _check_scalar(node: ScalarNode, is_text: bool) -> None:
    value = node.value
    if bad := _CONTROL.search(value):
        raise _error(f"the character U+{ord(bad[0]):04X} in a text; remove it", node)
    if node.tag not in _NUMBERS or node.style is not None:
        return
    if len(value) > LONGEST_NUMBER:
        raise _error(f"a number of {len(value)} characters; correct it", node)
    if is_text:
        if not _is_written_plainly(node):
            node.tag = f"{_TAG}str"
    elif _TRAP.match(value):
        raise _error(
            f"{value[:40]!r}, which YAML reads to base 8 or 60; write it in decimal, or in quotes",
            node,
        )


def _is_written_plainly(node: ScalarNode) -> bool:
    """Whether a number's text is the one that its value has."""
    try:
        if node.tag == f"{_TAG}int":
            number = int(node.value)
            return abs(number) < 2**63 and str(number) == str(node.value)
        return repr(float(node.value)) == str(node.value)
    except ValueError:
        return False


def _check_keys(node: MappingNode) -> None:
    """No key twice; equal ones count as the same however they are written."""
    lines: dict[tuple[str, Any], int] = {}
    for name, _ in node.value:
        if not isinstance(name, ScalarNode):
            continue  # refused by the constructor
        if (key := _identity(name)) in lines:
            raise _error(
                f"the key {name.value[:80]!r} twice, first in line {lines[key]}; remove one", name
            )
        lines[key] = name.start_mark.line + 1


def _identity(name: ScalarNode) -> tuple[str, Any]:
    if name.tag not in (*_NUMBERS, f"{_TAG}bool"):
        return name.tag, name.value
    try:
        return "number", yaml.constructor.SafeConstructor().construct_object(name)
    except (ValueError, LookupError, OverflowError):
        return name.tag, name.value
