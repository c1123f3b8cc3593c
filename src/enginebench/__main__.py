"""``python -m enginebench``."""

from enginebench.cli import main

main()
