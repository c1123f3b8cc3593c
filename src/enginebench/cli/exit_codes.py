"""The program's exit codes. ``kit/host.py`` runs without this package and has copies of two."""

INVALID = 1  # cells that are not valid, impossible rows of a table, or a model that does not fit
USER_ERROR = 2
TIME_IS_UP = 3
INTERRUPTED = 130
