"""The base of every type in the resource: closed, immutable, camelCase in documents, described by its docstrings."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel


class SpecModel(BaseModel):
    """A part of the resource. Unknown fields are refused; values are never coerced ("50" is not 50)."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", min_length=1, max_length=63)]
"""A DNS label, as Kubernetes names objects."""

PluginName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
"""The name under which a plug-in is registered at its entry point."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=512)]

URL_PATTERN = r"^https?://[^\x00-\x20\x7f?#]+$"
"""Without a class such as \\s: Go, which the API server uses, and Rust, which Pydantic does, mean other characters."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]

Seconds = Annotated[int, Field(ge=1, le=31 * 24 * 3600)]


SecretNameText = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]


class SecretName(SpecModel):
    """A Secret in the run's namespace, all of its keys. The operator never reads it."""

    name: SecretNameText
    """name is the name of the Secret."""


class SecretKey(SpecModel):
    """One key of a Secret in the run's namespace.

    On Kubernetes it is mounted as a file into the pods that need it; the operator never reads it. Without a cluster
    the same file is looked up at ``$DISTILLERY_SECRETS/<name>/<key>``.
    """

    name: SecretNameText
    """name is the name of the Secret."""

    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
    """key is the key inside the Secret."""
