"""What the model and the hardware bound: a cell's share of its ceiling, and its memory's parts.

Pure. A bound that would rest on an unknown form (of the model, a dtype, a quantization) is None.
"""

import math

import numpy as np

from enginebench.check.physics import Shares
from enginebench.hardware import roofline
from enginebench.hardware.model_config import text_config
from enginebench.hardware.run_options import RunOptions, run_options
from enginebench.metrics import memory
from enginebench.metrics.figures import Figures
from enginebench.metrics.request_table import Columns
from enginebench.record.schema import Launch, Model
from enginebench.record.schema_study import Study


def account(study: Study, launch: Launch | None, figures: Figures) -> dict[str, float | None]:
    """The parts of the memory that the machine shows, and what a token takes by the config."""
    model = model_of(study, launch)
    shape = model_shape(model)
    dtypes = run_dtypes(shape, launch) if shape is not None else None
    per_token = None
    if shape is not None and dtypes is not None:
        per_token = shape.kv_bytes_per_token(dtypes.kv_bytes)
    shown_by = "gpu_memory_peak_bytes" if study.device == "cuda" else "memory_peak_bytes"
    total = figures[shown_by]
    parts = memory.account(total, weights_bytes(model, launch), figures["kv_reserved_bytes"])
    return parts | {"total_bytes": total, "kv_bytes_per_token": per_token}


def model_of(study: Study, launch: Launch | None) -> Model:
    """The model that an engine was given: a derived copy, or the study's."""
    own = launch.model if launch else None
    return own or study.model


def model_shape(model: Model) -> roofline.ModelShape | None:
    """The model's shape; None where its form is not worked out."""
    try:
        return roofline.shape(model.config)
    except roofline.UnknownShape:
        return None


def run_dtypes(shape: roofline.ModelShape, launch: Launch | None) -> roofline.Dtypes | None:
    """The dtypes of a launch; None: not known."""
    name = _dtype(launch)
    stated = launch_options(launch).kv_dtype
    kv_dtype = roofline.dtype_name(stated or "")
    if name is None or (stated is not None and kv_dtype is None):
        return None
    return roofline.run_dtypes(shape, name, kv_dtype)


def weights_bytes(model: Model, launch: Launch | None) -> float | None:
    """Bytes that the weights take in memory, with those of a draft model; None: not known."""
    models = [model, launch.draft] if launch and launch.draft else [model]
    parts = [_own_weights_bytes(each, launch) for each in models]
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _own_weights_bytes(model: Model, launch: Launch | None) -> float | None:
    if is_stored_quantized(model):
        return model.weights_bytes  # they stay as they are stored
    name = _dtype(launch)
    if name is None or not model.parameters or launch_options(launch).is_quantized:
        return None
    return float(model.parameters * roofline.DTYPE_BYTES[name])


def shares(
    study: Study,
    ceiling: roofline.Ceiling | None,
    launch: Launch | None,
    requests: Columns,
    concurrency: int,
    figures: Figures,
    cached: int = 0,
) -> Shares:
    """How near the cell came to what the hardware allows; None where a ceiling is not known.

    Args:
        cached: tokens that a prefix cache may have given to a request; no bound counts their
            arithmetic.
    """
    given = model_of(study, launch)
    shortest, model, options = _shortest(requests), model_shape(given), launch_options(launch)
    window_s = figures["window_s"]
    if model is None or ceiling is None or not shortest or not window_s:
        return Shares()
    if options.is_quantized and not is_stored_quantized(given):
        return Shares()  # by the engine, in a way that is not known here
    dtypes = run_dtypes(model, launch)
    if dtypes is None:
        return Shares()
    per_read = math.inf if options.is_speculative else 1
    work = {kind: count for kind, (count, _) in shortest.items()}
    prompt = min(prompt for prompt, _ in work)
    try:
        least_s = roofline.cell_s(model, ceiling, dtypes, work, concurrency, per_read, cached)
        step_s = roofline.decode_step_s(model, ceiling, dtypes, [prompt]) / per_read
        computed = roofline.uncached(prompt, cached)
        prefill_s = roofline.prefill_s(model, ceiling, dtypes, computed)
        of_requests = [
            roofline.request_s(model, ceiling, dtypes, *kind, per_read, cached) / e2e_s
            for kind, (_, e2e_s) in shortest.items()
            if 0 < e2e_s < math.inf
        ]
    except roofline.UnknownShape:  # how its weights are quantized
        return Shares()
    tpot_s, ttft_s = figures["tpot_s_min"], figures["ttft_s_min"]
    return Shares(
        least_s / window_s,
        step_s / tpot_s if tpot_s else None,
        prefill_s / ttft_s if ttft_s else None,
        max(of_requests, default=None),
        study.device == "cpu",
    )


def _shortest(requests: Columns) -> dict[tuple[int, int], tuple[int, float]]:
    """By prompt and output tokens: how many requests finished, and the shortest E2E in s."""
    done = ~requests.is_failed & (requests.output_tokens > 0)
    e2e_s = np.nan_to_num(requests.last_s - requests.sent_s, nan=math.inf)[done]
    kinds = np.stack([requests.prompt_tokens_asked[done], requests.output_tokens[done]], axis=1)
    unique, index = np.unique(kinds, axis=0, return_inverse=True)
    least = np.full(len(unique), math.inf)
    np.minimum.at(least, index, e2e_s)
    counts = np.bincount(index, minlength=len(unique)).tolist()
    return {
        (int(prompt), int(output)): (count, shortest)
        for (prompt, output), count, shortest in zip(unique, counts, least.tolist(), strict=True)
    }


def _dtype(launch: Launch | None) -> str | None:
    return roofline.dtype_name((launch.dtype if launch else None) or "")


def launch_options(launch: Launch | None) -> RunOptions:
    if launch is None:
        return RunOptions()
    # Settings too: some engines are told in a file that the environment holds.
    return run_options({"command": launch.command, "env": {**launch.settings, **launch.env}})


def is_stored_quantized(model: Model) -> bool:
    return bool(({**text_config(model.config), **model.config}).get("quantization_config"))
