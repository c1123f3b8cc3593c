import pytest
from builders import request

from enginebench.metrics import agreement

DTYPES = ("float32", "float32")


def row(ids, margins=None, index=0, **changes):
    made = {
        "index": index,
        "prompt_sha256": f"sha{index}",
        "token_ids": ids,
        "margins": margins,
        "text": str(ids),
        "error": None,
    }
    return request(**(made | changes))


def compare(rows, others, dtypes=DTYPES):
    return agreement.compare("a/x", rows, "b/y", others, dtypes)


def test_the_same_tokens_are_identical_and_margins_tell_the_rounding_between_them():
    found = compare([row([5, 6, 7], [0.5, 0.25, 1.0])], [row([5, 6, 7], [0.5, 0.28, 0.99])])
    assert (found.prompts, found.identical, found.differences) == (1, 1, ())
    assert found.margin_error == pytest.approx(0.03)


def test_a_difference_is_placed_at_its_first_token_with_the_surer_margin_of_the_two():
    rows = [row([5, 6, 7, 8], [9, 9, 0.01, 9]), row([1, 2, 3], [1, 1, 1], index=1)]
    others = [row([5, 6, 9, 8], [9, 9, 0.04, 9]), row([2, 2, 3], [0.5, 9, 9], index=1)]
    found = compare(rows, others)
    assert [(d.prompt, d.token, d.margin) for d in found.differences] == [(0, 3, 0.04), (1, 1, 1)]
    assert (found.identical, found.prompts) == (0, 2)
    assert (found.first_token_median, found.first_token_worst) == (2, 1)
    assert found.margin_largest == 1
    assert found.margin_error == 0  # over the two tokens that both made


def test_an_answer_that_ends_before_the_other_parts_where_it_ends():
    (difference,) = compare([row([5, 6])], [row([5, 6, 7], [1.0, 1.0, 2.0])]).differences
    assert (difference.token, difference.margin) == (3, 2.0)


@pytest.mark.parametrize(
    ("margin", "dtypes", "is_clear"),
    [
        (0.001, DTYPES, False),
        (0.002, DTYPES, True),
        (0.002, ("float32, m+easy weights as easy", "float32"), True),
        (0.002, ("float32", "bfloat16"), False),  # the coarser one decides
        (0.25, ("bfloat16", "bfloat16"), False),
        (0.26, ("bfloat16", "bfloat16"), True),
        (None, DTYPES, True),  # cannot be told from one
    ],
)
def test_what_a_near_tie_is_depends_on_the_dtype(margin, dtypes, is_clear):
    found = compare([row([1], [margin])], [row([2], None)], dtypes)
    assert bool(found.clear) is is_clear


def test_without_ids_only_the_texts_can_be_compared():
    rows = [row(None, text="same"), row(None, index=1, text="one")]
    found = compare(rows, [row([1], text="same"), row([2], index=1, text="other")])
    assert [(d.prompt, d.token, d.margin) for d in found.differences] == [(1, None, None)]
    assert found.first_token_median is None


def test_a_prompt_that_one_of_them_failed_is_not_compared_but_counted():
    found = compare([row([1]), row([1], index=1)], [row([2], error="gone"), row([1], index=1)])
    assert (found.prompts, found.unanswered, found.identical) == (1, 1, 1)


def test_everyone_is_put_beside_the_reference_engine_in_its_own_dtype_and_the_reference():
    labels = {
        "base/naive32": "float32",
        "base/naive16": "bfloat16",
        "base/batch16": "bfloat16",
        "fast/16": "bfloat16",
        "fast/8": "fp8",
    }
    answers = {label: [row([1])] for label in labels}
    found = agreement.comparisons(answers, labels, "base/naive32")
    assert [(c.label, c.against) for c in found] == [
        ("base/naive16", "base/naive32"),
        ("base/batch16", "base/naive16"),
        ("base/batch16", "base/naive32"),
        ("fast/16", "base/naive16"),
        ("fast/16", "base/naive32"),
        ("fast/8", "base/naive32"),
    ]
    assert [c.is_same_dtype for c in found] == [False, True, False, True, False, False]


def test_a_reference_that_gave_no_answers_leaves_what_can_be_compared():
    answers = {"base/b": [row([1])], "fast/b": [row([1])]}
    dtypes = {"base/b": "bfloat16", "fast/b": "bfloat16"}
    found = agreement.comparisons(answers, dtypes, "base/a")
    assert [(c.label, c.against) for c in found] == [("fast/b", "base/b")]
