"""Devices by their names: which figures hold for which board, and names that fit none."""

import datetime

import pytest

from enginebench.base.errors import UserError
from enginebench.hardware import capacity, data_sheets

DEVICES = data_sheets.table("devices.yaml")
BY_NAME = {row["name"]: row for row in DEVICES}


def fitting(name):
    return [row["name"] for row in data_sheets.find_devices(name, DEVICES)]


@pytest.mark.parametrize("row", DEVICES, ids=lambda row: row["name"])
def test_every_figure_has_a_source_and_a_date(row):
    for stated in (row, row["memory"]):
        assert stated["source"]
        assert isinstance(stated["checked"], datetime.date)
    assert row.keys() >= {"bandwidth", "flops", "power_w"}


@pytest.mark.parametrize("row", DEVICES, ids=lambda row: row["name"])
def test_every_device_is_found_by_its_own_name(row):
    assert data_sheets.find_device(row["name"], DEVICES) == row


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # as NVML and other libraries spell them
        ("NVIDIA A100-SXM4-40GB", "A100-SXM-40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-SXM-80GB"),
        ("NVIDIA A100-PCIE-40GB", "A100-PCIe-40GB"),
        ("NVIDIA A100 80GB PCIe", "A100-PCIe-80GB"),
        ("NVIDIA H100 80GB HBM3", "H100-SXM-80GB"),
        ("NVIDIA H100 PCIe", "H100-PCIe-80GB"),
        ("NVIDIA H100 NVL", "H100-NVL-94GB"),
        ("NVIDIA H200", "H200-SXM"),
        ("NVIDIA H200 NVL", "H200-NVL"),
        ("NVIDIA GH200 480GB", "GH200-96GB"),  # 480 GB are its CPU's
        ("NVIDIA GH200 144G HBM3e", "GH200-144GB"),
        ("NVIDIA GB200", "GB200"),
        ("NVIDIA B200", "B200"),
        ("Tesla V100-SXM2-16GB", "V100-SXM-16GB"),
        ("Tesla V100-PCIE-32GB", "V100-PCIe-32GB"),
        ("Tesla T4", "T4"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA-L40", "L40"),
        ("nvidia_l40s", "L40S"),
        ("AMD Instinct MI300X", "MI300X"),
        ("AMD Instinct MI250X", "MI250X"),
        ("Habana Gaudi2", "Gaudi2"),
        ("Intel Gaudi 2", "Gaudi2"),
        ("Intel(R) Data Center GPU Max 1550", "Max-1550"),
        ("H100 SXM5 80GB HBM3 700W", "H100-SXM-80GB"),
        ("A100SXM4 40 GB", "A100-SXM-40GB"),
    ],
)
def test_loose_spellings_find_the_variant(name, expected):
    assert fitting(name) == [expected]


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        " ",
        "Unknown Error",
        "NVIDIA RTX A1000",
        "NVIDIA A800-SXM4-80GB",
        "Tesla V100S-PCIE-32GB",  # faster memory than a V100
        "A100 64GB",
        "H100 96GB",
        "MI300A",
        "A100 and L4",
        # a part of a board
        "NVIDIA A100-SXM4-80GB MIG 3g.40gb",
        "MIG 1g.5gb",
        "3g.40gb",
        "GRID A100-10C",
        "NVIDIA A10-24Q",
        # several boards
        "8 x A100",
        "A100 x8",
        "dual A100",
        "2 nodes x 8 H100",
        "DGX H100",
        "GB200 NVL72",
        "H100-8",
        "A100 TP8",
        "p4d.24xlarge (A100)",
    ],
)
def test_a_name_that_is_not_of_one_known_board_has_no_ceiling(name):
    assert data_sheets.data_sheet(name, DEVICES) is None


@pytest.mark.parametrize(
    ("text", "count", "name"),
    [
        ("8 x A100", 8, "A100"),
        ("8xA100", 8, "A100"),
        ("8× A100", 8, "A100"),
        ("8*A100", 8, "A100"),
        ("A100 x8", 8, "A100"),
        ("A100 x 8", 8, "A100"),
        ("A100x8", 8, "A100"),
        ("A100 8x", 8, "A100"),
        ("A100 (x8)", 8, "A100"),
        ("A100 (8)", 8, "A100"),
        ("A100:8", 8, "A100"),
        ("A100-80GBx8", 8, "A100-80GB"),
        ("4x A100-80GB", 4, "A100-80GB"),
        ("4 x 80GB A100", 4, "80GB A100"),
        ("8 NVIDIA H100 80GB HBM3", 8, "NVIDIA H100 80GB HBM3"),
        ("8x H100 (8 GPUs)", 8, "H100"),
        ("dual L4", 2, "L4"),
        ("MI300X x8", 8, "MI300X"),
        ("1x NVIDIA L4", 1, "NVIDIA L4"),
        ("NVIDIA A100-SXM4-80GB", None, "NVIDIA A100-SXM4-80GB"),
        ("Tesla V100-SXM2-16GB", None, "Tesla V100-SXM2-16GB"),
        ("Max 1550", None, "Max 1550"),
        ("2 nodes x 8 A100", None, "2 nodes x 8 A100"),  # 16? It is not said.
        ("0 x A100", None, "0 x A100"),
        ("", None, ""),
        (None, None, ""),
    ],
)
def test_a_count_is_read_apart_from_the_name(text, count, name):
    assert data_sheets.parse_gpu(text) == (count, name)


def test_a_ceiling_of_an_ambiguous_name_holds_for_all_its_variants():
    a100, both_h100 = (data_sheets.data_sheet(name, DEVICES) for name in ("A100", "H100"))
    assert a100.bandwidth_bytes_per_s == 2.039e12  # the 80 GB SXM board's
    assert both_h100.bandwidth_bytes_per_s == 3.35e12
    assert both_h100.flops_per_s["float16"] == 989.4e12  # SXM's, not PCIe's 756
    forty = data_sheets.data_sheet("A100 40GB", DEVICES)
    assert forty.bandwidth_bytes_per_s == 1.555e12


@pytest.mark.parametrize(
    ("name", "mib"),
    [  # what nvidia-smi shows
        ("NVIDIA H100 80GB HBM3", 81_559),
        ("h100", 81_559),  # PCIe and SXM show the same
        ("NVIDIA H100 NVL", 95_830),
        ("NVIDIA H200", 143_771),
        ("A100-SXM4-80GB", 81_920),
        ("A100-40GB", 40_960),
        ("NVIDIA L4", 23_034),
        ("Tesla T4", 15_360),
        ("NVIDIA L40S", 46_068),
        ("NVIDIA A10G", 23_028),
        ("NVIDIA A10", 23_028),
        ("NVIDIA GH200 480GB", 97_871),
        ("V100-16GB", 16_160),
    ],
)
def test_memory_is_what_software_sees(name, mib):
    assert capacity.device_memory(name)[0] == mib * 2**20


def test_where_only_the_size_as_sold_is_known_it_is_said():
    size, source = capacity.device_memory("GH200 144GB")
    assert size == 144e9
    assert "as sold: data sheet" in source


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("A100", "40 or 80 GB? give A100-40GB or A100-80GB"),
        ("A100 PCIe", "40 or 80 GB? give A100-40GB or A100-80GB"),
        ("Tesla V100", "16 or 32 GB? give V100-16GB or V100-32GB"),
        ("GH200", "96 or 144 GB? give GH200-96GB or GH200-144GB"),
        ("8 x A100-80GB", "give 'A100-80GB' --gpus 8"),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", "--memory-gib"),
        ("A100 64GB", "--memory-gib"),
        ("", "--memory-gib"),
    ],
)
def test_what_fits_in_memory_is_not_guessed_from_an_ambiguous_name(name, words):
    with pytest.raises(UserError) as caught:
        capacity.device_memory(name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_variants_that_a_message_names_are_understood():
    for name in ("A100-40GB", "A100-80GB", "V100-16GB", "V100-32GB", "GH200-96GB", "GH200-144GB"):
        assert capacity.device_memory(name)[0] > 0


def test_the_board_power_of_an_a10_is_not_that_of_an_a10g():
    assert (BY_NAME["A10"]["power_w"], BY_NAME["A10G"]["power_w"]) == (150, 300)
