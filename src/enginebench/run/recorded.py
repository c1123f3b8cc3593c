"""What the stages report, as the record's types."""

from typing import TypeVar

import msgspec

T = TypeVar("T")


def as_recorded(kind: type[T], facts: object) -> T:
    """A stage's dataclass as the record's type with the same fields.

    Stages below the record cannot import its types; a test compares their fields.
    """
    return msgspec.convert(facts, kind, from_attributes=True)
