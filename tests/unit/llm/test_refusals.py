"""The meaning of refusals, in the words of known servers."""

from __future__ import annotations

from typing import Any

import pytest

from distillery.llm.refusals import Cause, parse_refusal, suggest_parameter_fix

SENT = {"temperature": 0.0, "max_tokens": 100, "stop": ["\n"]}


def openai(message: str, *, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def bare(message: str) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}


TOO_LONG: dict[str, tuple[int, Any]] = {
    "openai": (400, openai("the words may change", code="context_length_exceeded", param="messages")),
    "openai, of an account": (
        429,
        openai("Request too large for gpt-4 in organization o on tokens per min (TPM): Limit 10000, Requested 12543."),
    ),
    "vllm": (
        400,
        bare(
            "This model's maximum context length is 1024 tokens. However, your request has 1030 input tokens. "
            "Please reduce the length of the input messages."
        ),
    ),
    "vllm, with a reply": (
        400,
        openai(
            "'max_tokens' or 'max_completion_tokens' is too large: 100. This model's maximum context length is 1024 "
            "tokens and your request has 1000 input tokens (100 > 1024 - 1000).",
            param="max_tokens",
        ),
    ),
    "vllm, of a prompt": (
        400,
        bare("The decoder prompt (length 5000) is longer than the maximum model length of 4096."),
    ),
    "anthropic": (
        400,
        {"error": {"code": "invalid_request_error", "message": "prompt is too long: 210934 tokens > 200000 maximum"}},
    ),
    "anthropic, with a reply": (
        400,
        openai("input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000, decrease input length"),
    ),
    "gemini": (
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "The input token count (1200293) exceeds the maximum number of tokens allowed (9).",
                    "status": "INVALID_ARGUMENT",
                }
            }
        ],
    ),
    "llama.cpp": (
        400,
        {"error": {"code": 400, "message": "?", "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8}},
    ),
    "llama.cpp, older": (
        500,
        {"error": {"code": 500, "message": "the request exceeds the available context size. try increasing it"}},
    ),
    "tgi": (
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. "
            "Given: 4090 `inputs` tokens and 100 `max_new_tokens`",
            "error_type": "validation",
        },
    ),
    "tgi, of a prompt": (
        422,
        {"error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 1500", "error_type": "v"},
    ),
    "sglang": (400, bare("The input (5000 tokens) is longer than the model's context length (4096 tokens).")),
    "a proxy": (413, "<html>Payload Too Large</html>"),
}


@pytest.mark.parametrize("server", TOO_LONG)
def test_refusal_is_of_length_in_the_words_of_each_server(server: str):
    status, answer = TOO_LONG[server]
    assert parse_refusal(status, answer, SENT).cause == Cause.LENGTH


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (
            400,
            openai("The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
                   code="content_filter", param="prompt"),
        ),
        (403, {"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["x"], "flagged_input": "..."}}}),
        (400, openai("Invalid prompt: your prompt was flagged as potentially violating our usage policy.")),
        (400, "Bad Request"),
        (422, {"detail": [{"loc": ["body", "messages"], "msg": "no"}]}),
        (400, bare("this many tokens nobody can read")),
        (400, []),
        (400, None),
    ],
)  # fmt: skip
def test_refusal_is_of_the_prompt_when_others_may_pass(status: int, answer: Any):
    assert parse_refusal(status, answer, SENT).cause == Cause.PROMPT


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (401, openai("Incorrect API key provided", code="invalid_api_key")),
        (403, "Forbidden"),
        (404, openai("The model `m` does not exist", code="model_not_found")),
        (404, {"detail": "Not Found"}),
        (402, openai("Insufficient Balance")),
        (400, openai("no such model", code="model_not_found")),
    ],
)
def test_refusal_is_of_every_request_when_status_or_code_says_so(status: int, answer: Any):
    assert parse_refusal(status, answer, SENT).cause == Cause.REQUEST


@pytest.mark.parametrize(
    ("answer", "parameter"),
    [
        (
            openai(
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
                "instead.",
                code="unsupported_parameter",
                param="max_tokens",
            ),
            "max_tokens",
        ),
        (
            openai(
                "'temperature' does not support 0.0 with this model.", code="unsupported_value", param="temperature"
            ),
            "temperature",
        ),
        (openai("max_tokens is too large: 9000.", param="max_tokens"), "max_tokens"),
        (openai("Invalid schema for response_format 'hints'", param="response_format"), "response_format"),
        (openai("response_format value as json_schema is enabled only for later versions"), "response_format"),
        (openai("role system is not supported", code="unsupported_value", param="messages[0].role"), "messages"),
    ],
)
def test_refusal_names_the_parameter_to_blame(answer: Any, parameter: str):
    refusal = parse_refusal(400, answer, {**SENT, "response_format": {}})
    assert (refusal.cause, refusal.parameter) == (Cause.PARAMETER, parameter)


def test_suggest_parameter_fix_says_what_to_write():
    field = "spec.models.teacher.endpoint"
    assert suggest_parameter_fix(field, "max_tokens", SENT) == (
        "spec.models.teacher.endpoint.parameters: write {max_tokens: null, max_completion_tokens: 100}"
    )
    assert suggest_parameter_fix(field, "stop", SENT).endswith(".parameters: write {stop: null}")
