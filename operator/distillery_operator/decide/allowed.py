"""The images, endpoints, accounts and classes that the cluster's administrators allow runs to name. Pure.

An empty list allows everything. Objects that the operator makes by itself, such as a run's own service account or the
images of its settings, are always allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlsplit

from distillery.core.api import Problem, Spec
from distillery.core.api.base import SpecModel
from distillery.core.api.problems import format_value
from distillery.core.api.spec.infrastructure import PodTemplate
from distillery_operator.settings import Settings


def find_forbidden(spec: Spec, settings: Settings) -> list[Problem]:
    """Return the fields whose values are not allowed, each with the values that are."""
    rules: tuple[tuple[str, Iterator[tuple[str, str]], Sequence[str], Callable[[str, str], bool]], ...] = (
        ("images", _images(spec), settings.allowed_images, _is_image_of),
        ("endpoints", _endpoints(spec), settings.allowed_endpoints, _is_url_of),
        ("serviceAccounts", _of_pods(spec, "service_account_name"), settings.allowed_service_accounts, str.__eq__),
        ("priorityClasses", _of_pods(spec, "priority_class_name"), settings.allowed_priority_classes, str.__eq__),
        ("runtimeClasses", _of_pods(spec, "runtime_class_name"), settings.allowed_runtime_classes, str.__eq__),
    )
    return [
        Problem(path, format_value(value), _fix(name, allowed))
        for name, fields, allowed, matches in rules
        for path, value in fields
        if allowed and not any(matches(value, entry) for entry in allowed)
    ]


def _fix(name: str, allowed: Sequence[str]) -> str:
    return (
        f"is not allowed on this cluster, which allows {', '.join(allowed)}; write one of these, or have the value "
        f"allowed.{name} of the operator's chart changed"
    )


def _images(spec: Spec) -> Iterator[tuple[str, str]]:
    yield from _of_pods(spec, "image")
    if spec.model_server.image is not None:
        yield "spec.modelServer.image", spec.model_server.image


def _of_pods(spec: Spec, name: str) -> Iterator[tuple[str, str]]:
    """Yield the paths and values of a field of all pod templates of a specification."""
    for path, template in _pod_templates(spec, "spec"):
        if (value := getattr(template, name)) is not None:
            yield f"{path}.{PodTemplate.model_fields[name].alias}", value


def _pod_templates(part: SpecModel, path: str) -> Iterator[tuple[str, PodTemplate]]:
    """Yield the pod templates within a part of a specification, and their paths."""
    for name, field in type(part).model_fields.items():
        value, below = getattr(part, name), f"{path}.{field.alias or name}"
        if isinstance(value, PodTemplate):
            yield below, value
        elif isinstance(value, SpecModel):
            yield from _pod_templates(value, below)


def _endpoints(spec: Spec) -> Iterator[tuple[str, str]]:
    """Yield the URLs of servers that pods of the run send something to, tokens and credentials included."""
    models = spec.models
    for role, model in (("student", models.student), ("teacher", models.teacher), ("extractor", models.extractor)):
        if model and model.endpoint:
            yield f"spec.models.{role}.endpoint.baseURL", model.endpoint.base_url
    if spec.storage.endpoint_url is not None:
        yield "spec.storage.endpointURL", spec.storage.endpoint_url
    if "url" in spec.environment.options:
        yield "spec.environment.options.url", str(spec.environment.options["url"])


def _is_image_of(image: str, entry: str) -> bool:
    """Return whether an image is the one of an entry, or is of the registry or the folder that an entry names."""
    image, entry = _with_registry(image), _with_registry(entry)
    rest = image.removeprefix(entry)
    return image == entry or (rest != image and (entry.endswith("/") or rest[0] in "/:@"))


def _with_registry(image: str) -> str:
    """Return an image with its registry: ``vllm/vllm-openai`` is short for ``docker.io/vllm/vllm-openai``."""
    first, slash, _ = image.partition("/")
    has_registry = slash and ("." in first or ":" in first or first == "localhost")
    return image if has_registry or (not slash and "." in first) else f"docker.io/{image}"


def _is_url_of(url: str, entry: str) -> bool:
    """Return whether a URL is of the host of an entry, or of the domain of one such as ``*.example.com``.

    Programs differ in how they read a user or a backslash in a URL, so none with them is of any host.
    """
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if "@" in url or "\\" in url:
        return False
    entry = entry.lower()
    return host.endswith(entry[1:]) if entry.startswith("*.") else host == entry
