"""How far the streams of a closed loop move in step, and which requests are its first burst. Pure.

Streams that start together and ask for outputs of one length also end together, and send their
next requests together. The TTFT of such a load is that of a burst: the time to prefill as many
prompts at once as there are streams. Out of step, the same engine answers many times sooner.
"""

import numpy as np
from numpy.typing import NDArray

from enginebench.metrics.request_table import Columns

WINDOW = 0.1  # width of the time within which requests count as sent together, in mean requests
IN_STEP = (
    0.5  # from this share on, a cell's TTFT is that of bursts; evenly spread streams reach WINDOW
)


def burst(requests: Columns, streams: int) -> NDArray[np.bool_]:
    """Whether each request belongs to the first burst: the first one of every stream.

    Args:
        streams: of the closed loop; its first requests are those that were sent first.
    """
    first = np.zeros(len(requests), dtype=bool)
    sent = np.argsort(requests.sent_s, kind="stable")  # NaN, never sent, comes last
    first[sent[:streams]] = True
    return first & ~np.isnan(requests.sent_s)


def in_step_share(requests: Columns, streams: int) -> float | None:
    """The share of the other streams that send within WINDOW of a request's mean time, 0 to 1.

    The median over all requests but the first of each stream. Evenly spread streams reach about
    WINDOW, streams in lock-step 1. None with fewer than two streams, or with none of them sending a
    second request.
    """
    e2e_s = requests.last_s - requests.sent_s
    later = ~burst(requests, streams) & ~np.isnan(requests.sent_s)
    if streams < 2 or later.sum() < streams or np.isnan(e2e_s).all():
        return None
    sent_s = np.sort(requests.sent_s[later])
    half_s = WINDOW / 2 * float(np.nanmean(e2e_s))
    near = np.searchsorted(sent_s, sent_s + half_s, side="right")
    near -= np.searchsorted(sent_s, sent_s - half_s, side="left")
    return float(min(np.median(near - 1) / (streams - 1), 1.0))
