"""Before a cell is run again: a short wait for others to have finished."""

import time
from collections.abc import Callable

from enginebench.base.machine_row import MachineRow
from enginebench.check.disturbance import OTHERS_CORES, OTHERS_SHARE
from enginebench.metrics import machine_load
from enginebench.watch.machine_load import INTERVAL_S

QUIET_S = 2.0
LIMIT_S = 15.0


def wait(
    sample: Callable[[], MachineRow],
    limit_s: float = LIMIT_S,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Wait until others have been quiet for QUIET_S; False where they were not within the limit.

    Where the CPU time of others is not known there is nothing to wait for: True, after QUIET_S.

    Args:
        sample: reads the machine (``MachineSampler.sample``); the engine is idle meanwhile.
    """
    rows = [sample()]
    while rows[-1].t_s - rows[0].t_s < limit_s:
        sleep(INTERVAL_S)
        rows.append(sample())
        latest = machine_load.points(rows, QUIET_S)
        if not latest:
            continue
        others = latest[-1].others_cores
        if others is None or others < max(OTHERS_CORES, OTHERS_SHARE * len(rows[-1].cpus)):
            return True
    return False
