"""Quantized forms of a weight matrix, as checkpoints store them. Pure.

All are symmetric and round to nearest: no data is needed, and the same matrix gives the same bytes.
A weight is its whole number times its scale; the error is at most half a scale. The forms:

- ``w8a8``, ``w4a16``: int-quantized and pack-quantized of vllm-project/compressed-tensors (0.12,
  src/compressed_tensors/compressors);
- ``gptq``: AutoGPTQ's, which stores its zero points minus one;
- ``awq``: AutoAWQ's GEMM, whose lanes stand in the order 0, 2, 4, 6, 1, 3, 5, 7.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from enginebench.plan.tensor_file import Form, bfloat16, float32

GROUP = 64  # weights along the input that share a scale in the forms of 4 bits
ZERO_POINT = 8  # of unsigned 4-bit numbers
LANES = 8  # numbers of 4 bits in an int32
IN_ORDER = tuple(range(LANES))
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

Tensors = Mapping[str, np.ndarray]  # by what their names end in, after the module's name


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """One form: its tensors for a matrix [outputs, inputs] in float32, and what config.json says.

    The inputs must be a multiple of ``inputs_of``, the outputs of ``outputs_of``.
    """

    tensors: Callable[[np.ndarray], Tensors]
    forms: Callable[[int, int], Mapping[str, Form]]
    config: Mapping[str, Any]
    inputs_of: int = 1
    outputs_of: int = 1


def int8_rows(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers of 8 bits, and a scale a row as raw bfloat16 [outputs, 1]."""
    largest = np.abs(weights).max(axis=1, keepdims=True)
    stored = _bfloat16_scales(largest / np.float32(127))
    numbers = np.rint(weights / float32(stored))
    return np.clip(numbers, -127, 127).astype(np.int8), stored


def int4_groups(
    weights: np.ndarray, store: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers from -8 to 7 [outputs, inputs], and a scale a group [outputs, groups].

    Args:
        store: float32 scales as they are stored, none of them zero.
    """
    outputs, inputs = weights.shape
    groups = weights.reshape(outputs, inputs // GROUP, GROUP)
    stored = store(np.abs(groups).max(axis=2) / np.float32(7))
    scales = float32(stored) if stored.dtype == np.uint16 else stored.astype(np.float32)
    numbers = np.clip(np.rint(groups / scales[..., None]), -8, 7)
    return numbers.astype(np.int8).reshape(outputs, inputs), stored


def pack(numbers: np.ndarray, order: Sequence[int] = IN_ORDER) -> np.ndarray:
    """Numbers from 0 to 15, eight along the last axis to an int32.

    Args:
        order: which of the eight stands in each lane, the lowest four bits first.
    """
    rows = numbers.shape[0]
    lanes = numbers.reshape(rows, -1, LANES)[:, :, list(order)].astype("<u4")
    shifts = np.arange(LANES, dtype="<u4") * np.uint32(4)
    words: np.ndarray = np.bitwise_or.reduce(lanes << shifts, axis=2).astype("<u4")
    return words.view("<i4")


def _bfloat16_scales(scales: np.ndarray) -> np.ndarray:
    stored = bfloat16(scales)
    return np.where(stored == 0, bfloat16(np.ones(1, np.float32)), stored)  # a row of zeros


def _float16_scales(scales: np.ndarray) -> np.ndarray:
    stored = scales.astype("<f2")
    return np.where(stored == 0, np.float16(1), stored)


def _w8a8(weights: np.ndarray) -> Tensors:
    numbers, scales = int8_rows(weights)
    return {"weight": numbers, "weight_scale": scales}


def _w4a16(weights: np.ndarray) -> Tensors:
    numbers, scales = int4_groups(weights, _bfloat16_scales)
    return {
        "weight_packed": pack(numbers + ZERO_POINT),
        "weight_scale": scales,
        "weight_shape": np.array(weights.shape, dtype="<i8"),
    }


def _gptq(weights: np.ndarray) -> Tensors:
    outputs, inputs = weights.shape
    numbers, scales = int4_groups(weights, _float16_scales)
    zeros = np.full((inputs // GROUP, outputs), ZERO_POINT - 1, dtype=np.int8)
    return {
        "qweight": pack(numbers + ZERO_POINT).T,  # eight inputs to an int32
        "qzeros": pack(zeros),
        "scales": scales.T,
        "g_idx": (np.arange(inputs) // GROUP).astype("<i4"),
    }


def _awq(weights: np.ndarray) -> Tensors:
    outputs, inputs = weights.shape
    numbers, scales = int4_groups(weights, _float16_scales)
    zeros = np.full((inputs // GROUP, outputs), ZERO_POINT, dtype=np.int8)
    return {
        "qweight": pack((numbers + ZERO_POINT).T, AWQ_ORDER),  # eight outputs to an int32
        "qzeros": pack(zeros, AWQ_ORDER),
        "scales": scales.T,
    }


def _compressed(
    form: str, weights: Mapping[str, Any], inputs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """``quantization_config`` of compressed-tensors: all linear layers but the head."""
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group | {"output_activations": None}},
        "ignore": ["lm_head"],
    }


def _numbers(bits: int, strategy: str, **more: Any) -> dict[str, Any]:
    """Whole numbers of so many bits, in the words of compressed-tensors."""
    common = {"num_bits": bits, "type": "int", "symmetric": True, "strategy": strategy}
    return common | {"group_size": None, "dynamic": False} | more


_GROUPS = {"bits": 4, "group_size": GROUP}

FORMATS: Mapping[str, WeightFormat] = {
    "w8a8": WeightFormat(
        _w8a8,
        lambda outputs, inputs: {
            "weight": ("I8", (outputs, inputs)),
            "weight_scale": ("BF16", (outputs, 1)),
        },
        _compressed("int-quantized", _numbers(8, "channel"), _numbers(8, "token", dynamic=True)),
    ),
    "w4a16": WeightFormat(
        _w4a16,
        lambda outputs, inputs: {
            "weight_packed": ("I32", (outputs, inputs // LANES)),
            "weight_scale": ("BF16", (outputs, inputs // GROUP)),
            "weight_shape": ("I64", (2,)),
        },
        _compressed("pack-quantized", _numbers(4, "group", group_size=GROUP), None),
        inputs_of=GROUP,
    ),
    "gptq": WeightFormat(
        _gptq,
        lambda outputs, inputs: {
            "qweight": ("I32", (inputs // LANES, outputs)),
            "qzeros": ("I32", (inputs // GROUP, outputs // LANES)),
            "scales": ("F16", (inputs // GROUP, outputs)),
            "g_idx": ("I32", (inputs,)),
        },
        {"quant_method": "gptq", "desc_act": False, "sym": True, "checkpoint_format": "gptq"}
        | {"lm_head": False, **_GROUPS},
        inputs_of=GROUP,
        outputs_of=LANES,
    ),
    "awq": WeightFormat(
        _awq,
        lambda outputs, inputs: {
            "qweight": ("I32", (inputs, outputs // LANES)),
            "qzeros": ("I32", (inputs // GROUP, outputs // LANES)),
            "scales": ("F16", (inputs // GROUP, outputs)),
        },
        {"quant_method": "awq", "zero_point": True, "version": "gemm", **_GROUPS},
        inputs_of=GROUP,
        outputs_of=LANES,
    ),
}
