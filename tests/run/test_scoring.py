"""Asking engines how probable they find a prompt: whatever they answer, the study goes on."""

import json
import math

import pytest
from builders import rows_of
from project import make_project, metrics, result, run_study, study

from enginebench.engines.dialect import GenerationRequest
from enginebench.engines.openai_completions import PROMPT_LOGPROBS
from enginebench.run.scoring import logprobs

ASK = GenerationRequest((11, 12, 13), "three tokens", 1)
ASKED = {"prompts": 2, "prompt_tokens": 24, "output_tokens": 6}
FAULTS = ("refuses-scores", "huge-scores", "wrong-scores")


def answer(entries):
    return json.dumps({"choices": [{"index": 0, "prompt_logprobs": entries}]})


def test_a_prompt_s_own_tokens_are_read_and_not_the_best_ones():
    entries = [None, {"9": {"logprob": -0.5}, "12": {"logprob": -2.0}}, {"13": {"logprob": -3.0}}]
    assert PROMPT_LOGPROBS.read(ASK, answer(entries)) == [-2.0, -3.0]
    body = PROMPT_LOGPROBS.body(ASK)
    assert (body["prompt"], body["prompt_logprobs"]) == ([11, 12, 13], 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        answer(None),
        answer([None, {"12": {"logprob": -1}}]),  # one too few
        answer([None, {"12": {"logprob": -1}}, {"14": {"logprob": -1}}]),  # of another prompt
        answer([None, {"12": -1}, {"13": -1}]),
        '{"choices": [{}, {}]}',
        '{"choices": "x"}',
    ],
)
def test_an_answer_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match=r"^expected log-probabilities of the prompt, found"):
        PROMPT_LOGPROBS.read(ASK, text)


@pytest.mark.parametrize("value", [None, "−1", True, math.nan, -math.inf, 0.5, -(10**400), []])
def test_what_is_no_logarithm_of_a_probability_is_refused(value):
    with pytest.raises(ValueError, match="expected 2 log-probabilities, found 1 of 2"):
        logprobs([-1.0, value], 2)


def test_rounding_may_take_a_logarithm_a_little_above_0():
    assert logprobs([-1, 1e-7], 2) == [-1.0, 1e-7]


def test_engines_that_do_not_answer_as_they_should_are_not_measured_and_end_no_study(
    cache, tmp_path
):
    project = make_project(tmp_path, "alpha")
    engines = [{"engine": "alpha"}] + [
        {"engine": "alpha", "variant": name, "settings": {"BEHAVIOUR": name}} for name in FAULTS
    ]
    workloads = study()["workloads"][:1]
    data = study(*engines, agreement=ASKED, workloads=workloads)
    done = run_study(project, cache, data, "--strict")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {one["label"].split("/")[1]: one for one in metrics(project)["perplexity"]}
    # The double gives every token ln p = −2; two prompts of 24 tokens, the first ones not counted.
    assert found["default"]["perplexity"] == pytest.approx(math.exp(2))
    assert (found["default"]["tokens"], found["default"]["ratio"]) == (46, 1)
    assert {name: found[name]["perplexity"] for name in FAULTS} == dict.fromkeys(FAULTS)
    assert [found[name]["reason"][:40] for name in FAULTS] == [
        "HTTP 400: no logprobs",
        "TooLarge: more than 0.34375 MiB",  # 2^18 + 24 · 4,096 bytes
        "expected 23 log-probabilities, found 0 o",
    ]
    rows = rows_of(result(project) / "raw/trial1_alpha_refuses-scores/perplexity.jsonl")
    assert len(rows) == 1  # after a failure no other prompt is asked
