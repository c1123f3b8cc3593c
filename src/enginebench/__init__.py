"""enginebench: a comparison study of LLM inference engines that can be trusted and rerun.

In scope: starting engines, giving all of them the same work, timing what comes back, watching
``/metrics`` and memory on the same clock, checking that the work was the same, and turning the
record into tables, figures and a report.

Out of scope: knowing any engine by name. What differs between engines stands in the engine's own
directory (``launch.yaml`` and ``engine.py``); this package is handed that directory and looks
nothing else up.

The flow has one direction, and each stage reads what the one before it wrote::

    plan -> launch -> drive (+ watch) -> record -> check -> summarize -> report
"""

__version__ = "0.1.0"
