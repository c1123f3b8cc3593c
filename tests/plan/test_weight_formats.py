import numpy as np
import pytest

from enginebench.plan.tensor_file import BYTES, bfloat16, float32
from enginebench.plan.weight_formats import AWQ_ORDER, FORMATS, GROUP, int4_groups, int8_rows, pack

WEIGHTS = np.random.default_rng(7).standard_normal((24, 2 * GROUP)).astype(np.float32) / np.float32(
    8
)


def half(scales):
    return scales.astype("<f2")


def unpacked(words, order=range(8)):
    """[rows, 8 * words] from int32, by shifting each lane down."""
    lanes = np.stack([(words.view("<u4") >> np.uint32(4 * lane)) & 15 for lane in range(8)], axis=2)
    numbers = np.empty_like(lanes)
    numbers[:, :, list(order)] = lanes
    return numbers.reshape(len(words), -1).astype(np.int32)


def restored(kind, tensors, inputs):
    """The weights [outputs, inputs] that an engine computes with."""
    if kind == "w8a8":
        return tensors["weight"] * float32(tensors["weight_scale"])
    if kind == "w4a16":
        numbers = unpacked(tensors["weight_packed"]) - 8
        return numbers * np.repeat(float32(tensors["weight_scale"]), GROUP, axis=1)
    scales = np.repeat(np.ascontiguousarray(tensors["scales"]).astype(np.float32), GROUP, axis=0)
    if kind == "gptq":
        words = np.ascontiguousarray(tensors["qweight"].T)
        zeros = np.repeat(unpacked(tensors["qzeros"]) + 1, GROUP, axis=0)
        assert tensors["g_idx"].tolist() == [i // GROUP for i in range(inputs)]
        return ((unpacked(words).T - zeros) * scales).T
    zeros = np.repeat(unpacked(tensors["qzeros"], AWQ_ORDER), GROUP, axis=0)
    return ((unpacked(tensors["qweight"], AWQ_ORDER) - zeros) * scales).T


def test_int8_by_hand():
    # The largest of a row becomes 127: scales 127/127 = 1 and 2.54/127 = 0.02, in bfloat16
    # 0.02002; -1 / 0.02002 = -49.95. A row of zeros has the scale 1.
    numbers, scales = int8_rows(np.float32([[127, -64.4], [2.54, -1], [0, 0]]))
    assert numbers.tolist() == [[127, -64], [127, -50], [0, 0]]
    assert float32(scales).ravel().tolist() == pytest.approx([1, 0.02, 1], rel=1 / 256)


def test_int4_by_hand():
    # Two groups of a row: the largest, 7 and -3.5, give the scales 1 and 0.5.
    row = np.zeros((1, 2 * GROUP), dtype=np.float32)
    row[0, :3] = 7, -2.6, 0.4
    row[0, GROUP : GROUP + 3] = -3.5, 1.0, 0.3
    numbers, scales = int4_groups(row, half)
    assert scales.tolist() == [[1, 0.5]]
    assert numbers[0, :3].tolist() == [7, -3, 0]
    assert numbers[0, GROUP : GROUP + 3].tolist() == [-7, 2, 1]


def test_packing_by_hand():
    # 1 in the lowest four bits, 2 in the next, ... 8 in the highest, whose sign bit is set.
    numbers = np.int8([[1, 2, 3, 4, 5, 6, 7, 8]])
    assert pack(numbers).view("<u4").tolist() == [[0x87654321]]
    # Lanes hold the numbers 0, 2, 4, 6, 1, 3, 5, 7: 1, 3, 5, 7, 2, 4, 6, 8.
    assert pack(numbers, AWQ_ORDER).view("<u4").tolist() == [[0x86427531]]


@pytest.mark.parametrize(("kind", "levels"), [("w8a8", 127), ("w4a16", 7), ("gptq", 7), ("awq", 7)])
def test_what_an_engine_computes_with_is_within_half_a_scale(kind, levels):
    tensors = FORMATS[kind].tensors(WEIGHTS)
    error = np.abs(restored(kind, tensors, WEIGHTS.shape[1]) - WEIGHTS)
    spread = np.abs(WEIGHTS).reshape(24, -1, GROUP if levels == 7 else WEIGHTS.shape[1])
    # A scale as it is stored is off by one part in 256 at most.
    half_scale = spread.max(axis=2, keepdims=True) / levels / 2 * (1 + 1 / 256)
    assert (error.reshape(spread.shape) <= half_scale + 1e-7).all()
    assert error.max() > half_scale.max() / 2  # it is no exact copy


@pytest.mark.parametrize("kind", FORMATS)
def test_the_tensors_have_the_forms_that_are_announced(kind):
    tensors, forms = FORMATS[kind].tensors(WEIGHTS), FORMATS[kind].forms(*WEIGHTS.shape)
    assert list(tensors) == list(forms)
    for name, (dtype, shape) in forms.items():
        assert (tensors[name].shape, tensors[name].dtype.itemsize) == (shape, BYTES[dtype])


@pytest.mark.parametrize("kind", FORMATS)
def test_a_matrix_of_zeros_stays_one(kind):
    made = FORMATS[kind].tensors(np.zeros((8, GROUP), dtype=np.float32))
    assert not restored(kind, made, GROUP).any()


def test_bfloat16_keeps_what_it_can_hold():
    # Steps of 2^-7 above 1: 1 + 2^-8 and 1 + 3 · 2^-8 lie half-way, and go to the even neighbour.
    values = np.float32([1.0, -0.5, 1 + 2**-8, 1 + 3 * 2**-8])
    assert float32(bfloat16(values)).tolist() == [1.0, -0.5, 1.0, 1 + 2**-6]
