"""The exceptions a caller may want to tell apart; anything else is a bug."""

from collections.abc import Sequence


class UserError(Exception):
    """A mistake that the user can correct: one line, then exit code 2.

    ``message`` says what was expected, what was found, where, and what to do next. ``details``
    are lines shown below it, such as the tail of an engine's log.
    """

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)


class EngineError(UserError):
    """An engine did not start, did not get ready, or died; ``details`` is the tail of its log."""
