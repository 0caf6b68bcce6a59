"""What clients send that is wrong costs them an error and nobody else anything; and who may ask at all."""

from __future__ import annotations

import base64
import http.client
import json
import re
import secrets
import socket
from collections.abc import Callable, Generator, Mapping
from typing import Any

import openai
import pytest

from distillery_gateway.auth.api_keys import digest_of
from tests.e2e.support import serving
from tests.e2e.support.cluster import Namespace
from tests.e2e.support.serving import MESSAGES, NAME, pods, restarts

pytestmark = pytest.mark.full

CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {"model": NAME, "messages": MESSAGES, "temperature": 0, "max_tokens": 8}
INTERNAL = re.compile(
    r"Traceback|File \"|\.py\b|site-packages|/(opt|usr|artifacts|adapters|tmp|home|root|run)/|127\.0\.0\.1|"
    r"student-[0-9a-f]|\bbase\b"
)
KEYS_SECONDS = 300  # a kubelet looks at Secrets about once a minute


def nested(depth: int) -> dict[str, Any]:
    """A JSON schema in a schema in a schema."""
    made: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        made = {"type": "object", "properties": {"a": made}}
    return made


def schema(content: Any) -> dict[str, Any]:
    """A request for an answer of that schema."""
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": content}}}


# Fields sent with, or in place of, those of GOOD, and the status and code of the answer. An empty code is the model
# server's own: the gateway passes its refusals on.
WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "another-model": ({"model": "gpt-4"}, 404, "model_not_found"),
    "the-base-model": ({"model": "base"}, 404, "model_not_found"),
    "a-path-as-model": ({"model": "../../../etc/passwd"}, 404, "model_not_found"),
    "an-encoded-path-as-model": ({"model": "..%2f..%2fadapters"}, 404, "model_not_found"),
    "a-long-model": ({"model": "x" * 100_000}, 404, "model_not_found"),
    "a-list-as-model": ({"model": [NAME]}, 400, "missing_parameter"),
    "a-seed": ({"seed": 1}, 400, "unsupported_parameter"),
    "many-choices": ({"n": 1000}, 400, "invalid_parameter"),
    "choices-in-words": ({"n": "two"}, 400, "invalid_parameter"),
    "many-tokens": ({"max_tokens": 10**9}, 400, "invalid_parameter"),
    "tokens-below-none": ({"max_tokens": -1}, 400, "invalid_parameter"),
    "many-logprobs": ({"logprobs": True, "top_logprobs": 10_000}, 400, "invalid_parameter"),
    "ignored-end": ({"ignore_eos": True}, 400, "unknown_parameter"),
    "prompt-logprobs": ({"prompt_logprobs": 1000}, 400, "unknown_parameter"),
    "a-guide": ({"guided_regex": "(a+)+$"}, 400, "unknown_parameter"),
    "another-guide": ({"structured_outputs": {"grammar": "root ::= root"}}, 400, "unknown_parameter"),
    "a-template": ({"chat_template": "{{ cycler.__init__.__globals__ }}"}, 400, "unknown_parameter"),
    "a-transfer": ({"kv_transfer_params": {"do_remote_decode": True}}, 400, "unknown_parameter"),
    "a-lora": ({"lora_path": "/adapters"}, 400, "unknown_parameter"),
    "bias-of-no-token": ({"logit_bias": {"99999999": 1}}, 400, ""),
    "bias-of-a-word": ({"logit_bias": {"book": 1}}, 400, ""),
    "bias-of-all": ({"logit_bias": {str(number): -100 for number in range(100_000)}}, 400, ""),
    "heat-in-words": ({"temperature": "hot"}, 400, ""),
    "heat-below-none": ({"temperature": -1}, 400, ""),
    "a-large-penalty": ({"frequency_penalty": 1e308}, 400, ""),
    "many-stops": ({"stop": ["x"] * 10_000}, 400, ""),
    "a-stop-of-nothing": ({"stop": [""]}, 400, ""),
    "messages-in-words": ({"messages": "hello"}, 400, ""),
    "no-message": ({"messages": []}, 400, ""),
    "a-message-without-content": ({"messages": [{}]}, 400, ""),
    "a-file-as-image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]},
        400, "",
    ),
    "a-long-message": ({"messages": [{"role": "user", "content": "book " * 100_000}]}, 400, ""),
    "no-such-format": ({"response_format": {"type": "xml"}}, 400, ""),
    "no-such-schema": (schema({"type": "nosuch"}), 400, ""),
    "a-deep-schema": (schema(nested(200)), 400, ""),
    "tools-without-a-parser": (
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"}, 400, "",
    ),
}  # fmt: skip

# The demonstration's model has no words for JSON: vLLM may fail at these, but for their client alone.
HARD: dict[str, dict[str, Any]] = {
    "a-regular-expression": schema({"type": "string", "pattern": "(a+)+$" * 20}),
    "any-json": {"response_format": {"type": "json_object"}},
    "a-lone-surrogate": {"messages": [{"role": "user", "content": "\ud800\x00"}]},
    "as-many-choices-as-there-may-be": {"n": 8, "temperature": 1.0, "max_tokens": 64},
}

BROKEN: dict[str, bytes] = {
    "no-json": b"{not json",
    "a-cut-object": json.dumps(GOOD).encode()[:-5],
    "a-list": b"[]",
    "nothing": b"",
    "no-text": b"\xff\xfe\x00",
    "nan": json.dumps({**GOOD, "temperature": float("nan")}).encode(),
    "infinity": json.dumps({**GOOD, "logit_bias": {"3": float("inf")}}).encode(),
    "depth": b'{"model": "x", "messages": ' + b"[" * 200_000,
    "digits": b'{"model": "x", "max_tokens": ' + b"9" * 100_000 + b"}",
}


@pytest.fixture(scope="module")
def address(adapters: Namespace) -> Generator[str]:
    """Of one of the gateways, with a vLLM behind."""
    serving.serve(adapters, 1)
    with adapters.forward(f"pod/{min(pods(adapters))}", 8000) as found:
        yield found


@pytest.fixture
def unharmed(adapters: Namespace, address: str) -> Generator[None]:
    """After a test a good request is answered, and no container was started again."""
    before = {name: restarts(pod) for name, pod in pods(adapters).items()}
    yield
    status, answer = post(address, json.dumps(GOOD).encode())
    assert status == 200, f"a good request after it: {status} {answer}"
    assert {name: restarts(pod) for name, pod in pods(adapters).items()} == before


def client(address: str, key: str = "none") -> openai.OpenAI:
    """One that does not try again."""
    return openai.OpenAI(base_url=f"http://{address}/v1", api_key=key, max_retries=0, timeout=120)


def post(address: str, body: bytes, path: str = CHAT) -> tuple[int, Any]:
    """Status and JSON of the answer to a body as it is."""
    connection = http.client.HTTPConnection(address, timeout=120)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def assert_reported(error: Any, sent: Mapping[str, Any] | None = None) -> None:
    """An error is one as OpenAI's API has them, and says nothing of what stands behind the gateway."""
    assert isinstance(error, dict), error
    assert {"message", "type", "param", "code"} <= error.keys(), error
    assert all(isinstance(error[name], str) and error[name] for name in ("message", "type", "code")), error
    assert len(error["message"]) <= 2000, error
    own = str((sent or {}).get("model", ""))  # what the client said itself may be repeated
    found = INTERNAL.search(json.dumps(error).replace(own, "") if own else json.dumps(error))
    assert not found, f"{found and found[0]!r} is in: {error}"


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", WRONG)
def test_wrong_request_is_refused_with_a_reason(address: str, name: str):
    changed, status, code = WRONG[name]
    body = {**GOOD, **changed}
    with pytest.raises(openai.APIStatusError) as caught:
        client(address).post("/chat/completions", body=body, cast_to=object)
    error = caught.value.body
    assert caught.value.status_code == status, error
    assert_reported(error, body)
    assert isinstance(error, dict)
    assert not code or error["code"] == code


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", HARD)
def test_hard_request_does_not_disturb_other_clients(address: str, name: str):
    status, answer = post(address, json.dumps({**GOOD, **HARD[name]}).encode())
    assert status in (200, 400, 422, 503), answer
    if status != 200:
        assert_reported(answer["error"])


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", BROKEN)
def test_request_is_refused_when_its_body_is_no_json_object(address: str, name: str):
    status, answer = post(address, BROKEN[name])
    assert (status, answer["error"]["code"]) == (400, "invalid_json")
    assert_reported(answer["error"])


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    "path",
    ["/v1/load_lora_adapter", "/v1/../v1/load_lora_adapter", "/v1/%6coad_lora_adapter", "/tokenize", "/metrics", "/"],
)
def test_no_other_path_is_served(address: str, path: str):
    status, answer = post(address, b'{"lora_name": "x", "lora_path": "/"}', path)
    assert (status, answer["error"]["code"]) == (404, "not_found")
    assert_reported(answer["error"])


@pytest.mark.usefixtures("unharmed")
def test_large_body_is_refused_before_it_is_read(address: str):
    with connect(address) as connection:
        connection.sendall(head(2_000_001))
        assert_refused(connection, 413, "body_too_large")
    whole = json.dumps({**GOOD, "user": "x" * 2_100_000}).encode()
    with pytest.raises(openai.APIStatusError) as caught:
        client(address).post("/chat/completions", body=json.loads(whole), cast_to=object)
    assert caught.value.status_code == 413
    assert_reported(caught.value.body)


@pytest.mark.usefixtures("unharmed")
def test_slow_client_is_disconnected(address: str):
    with connect(address) as connection:
        connection.sendall(head(1000) + b'{"model": ')
        assert_refused(connection, 408, "body_too_slow")


def connect(address: str) -> socket.socket:
    """A bare connection."""
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=120)


def head(length: int) -> bytes:
    """The beginning of a request with a body of so many bytes."""
    lines = [f"POST {CHAT} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {length}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def assert_refused(connection: socket.socket, status: int, code: str) -> None:
    """The answer on a connection is that refusal."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    error = json.loads(answer.read())["error"]
    assert (answer.status, error["code"]) == (status, code)
    assert_reported(error)


def secret(**keys: str) -> dict[str, Any]:
    """The Secret with the API keys."""
    data = {name: base64.b64encode(text.encode()).decode() for name, text in keys.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "clients"}, "data": data}


def test_keys_are_replaced_without_a_restart(adapters: Namespace):
    """The last test of the run: from here on its gateways ask for keys."""
    ann, bob, new = (f"dk-{secrets.token_urlsafe(32)}" for _ in range(3))
    restricted = json.dumps({"sha256": digest_of(bob), "models": ["another"]})
    adapters.apply(secret(ann=digest_of(ann), bob=restricted))
    serving.roll(adapters, {"gateway": {"apiKeysSecretRef": {"name": "clients"}}})
    before = pods(adapters)
    for pod in before:
        with adapters.forward(f"pod/{pod}", 8000) as address:
            assert status_of(address, ann) == 200
            assert [model.id for model in client(address, ann).models.list()] == [NAME]
            for wrong in (new, digest_of(ann), "dk-", ann[:-1]):
                with pytest.raises(openai.AuthenticationError) as refused:
                    client(address, wrong).models.list()
                assert_reported(refused.value.body)
            with pytest.raises(openai.NotFoundError) as missing:
                client(address, bob).chat.completions.create(**GOOD)
            assert missing.value.code == "model_not_found"
            assert list(client(address, bob).models.list()) == []

    adapters.apply(secret(ann=digest_of(new), bob=restricted))
    on_every_pod(adapters, "ann's other key", lambda address: status_of(address, new) == 200)
    on_every_pod(adapters, "the end of ann's key", lambda address: status_of(address, ann) == 401)
    adapters.apply(secret(bob=restricted))
    adapters.kubectl("annotate", "pods", *before, "e2e/look=again")  # a kubelet looks at a pod that changed at once
    on_every_pod(adapters, "no key of ann's", lambda address: status_of(address, new) == 401)
    on_every_pod(adapters, "bob's key as before", lambda address: status_of(address, bob) == 404)

    after = pods(adapters)
    assert {n: restarts(pod) for n, pod in after.items()} == {n: restarts(pod) for n, pod in before.items()}
    for pod in after:
        log = adapters.kubectl("logs", pod, "--container=gateway")
        assert "key=ann" in log
        assert not [key for key in (ann, bob, new) if key in log or digest_of(key) in log]


def on_every_pod(team: Namespace, what: str, holds: Callable[[str], bool]) -> None:
    """Wait until it holds for each gateway."""
    for pod in pods(team):
        with team.forward(f"pod/{pod}", 8000) as address:
            team.wait_for(f"{what} at {pod}", lambda at=address: holds(at), seconds=KEYS_SECONDS)


def status_of(address: str, key: str) -> int:
    """Of a good request with a key."""
    try:
        client(address, key).chat.completions.create(**GOOD)
    except openai.APIStatusError as error:
        return error.status_code
    return 200
