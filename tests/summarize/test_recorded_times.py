"""Times in a record that cannot be: found when it is read."""

import json

import made_record

from enginebench.summarize.study_summary import summarize


def test_a_clock_that_jumps_is_found_in_the_recorded_times(tmp_path):
    directory = made_record.write(tmp_path / "made", {"quick/plain": (1,)})
    where = directory / "raw" / "trial1_quick_plain" / "many-c1"
    about = json.loads((where / "cell.json").read_text())
    about["ended"] |= {"wall_s": about["started"]["wall_s"] + 6, "t_s": 1.0}
    (where / "cell.json").write_text(json.dumps(about))
    rows = made_record.read_rows(where)
    times = rows[0]["event_s"]
    times[3] = times[2] - 1e-6  # one event earlier than the one before
    made_record.save_rows(where, rows)
    one, four = summarize(directory).cells
    assert (one.concurrency, one.verdict, four.verdict) == (1, "invalid", "valid")
    assert [(f.check, f.verdict, f.text) for f in one.findings] == [
        ("clock", "invalid", "1 of 3 requests have times that are not in order"),
        ("clock", "suspect", "by one clock the cell took 1.000 s, by the other 6.000 s"),
    ]
