"""One engine under several names: how many comparisons call them apart. Runs nothing itself.

Usage: same_engine.py RESULT [RESULT ...], each the directory of a study such as aa-cpu.yaml.
Ends with 1 if more than 1 in 20 comparisons of output tokens/s says "apart".
"""

import json
import sys
from collections import Counter
from pathlib import Path

FIGURES = ("output_tokens_per_s", "ttft_s_p50", "tpot_s_p50", "usd_per_million_output_tokens")


def verdicts(directory: Path, figure: str) -> Counter[str]:
    """How often each word stands in the comparisons of one figure, over all pairs and levels."""
    data = json.loads((directory / "derived" / "metrics_data.json").read_text())
    rows = [row for row in data["comparisons"] if row["figure"] == figure]
    return Counter(ratio["verdict"] for row in rows for ratio in row["ratios"])


def main() -> int:
    too_many = False
    for name in sys.argv[1:]:
        directory = Path(name)
        data = json.loads((directory / "derived" / "metrics_data.json").read_text())
        cells = Counter(cell["verdict"] for cell in data["cells"])
        again = sum(len(cell["attempts"]) > 1 for cell in data["cells"])
        print(f"{directory.name}: cells {dict(cells)}, {again} of them run again")
        for figure in FIGURES:
            found = verdicts(directory, figure)
            print(f"  {figure}: {sum(found.values())} comparisons, {dict(found)}")
        found = verdicts(directory, FIGURES[0])
        too_many |= found["apart"] * 20 > sum(found.values())
    return int(too_many)


if __name__ == "__main__":
    sys.exit(main())
