"""What a user of the API server asked for, read from its audit log.

A test that compares an operator's RBAC grant with its needs runs the operator through all that it does and asks for
`requests`: what was granted and never used can go, and what was refused is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hack.testbed.places import Places


@dataclass(frozen=True, order=True, kw_only=True)
class Request:
    """A kind of request, in the words of a Role."""

    group: str
    """The API group; empty for the core."""
    resource: str
    """With its subresource, if there is one: ``pods/log``."""
    verb: str
    namespace: str
    """Empty for resources of the cluster, and for lists and watches of all namespaces."""
    allowed: bool


def find_applies(places: Places, path: str, manager: str) -> list[datetime]:
    """When a field manager applied something to an object, by server-side apply.

    Args:
        places: Where the node lives.
        path: The object's in the API, from ``/api`` on; with its subresource, if it is that.
        manager: The field manager.
    """
    found = list[datetime]()
    for line in _lines(places):
        if f'"requestURI":"{path}?' not in line:
            continue
        event: dict[str, Any] = json.loads(line)
        if event["verb"] == "patch" and manager in parse_qs(urlsplit(event["requestURI"]).query)["fieldManager"]:
            found.append(datetime.fromisoformat(event["requestReceivedTimestamp"]))
    return found


def _lines(places: Places) -> Iterator[str]:
    for log in places.logs.glob("audit*.log"):
        with log.open() as opened:
            yield from opened


def requests(places: Places, user: str, *, since: str = "") -> frozenset[Request]:
    """All kinds of requests that a user made since the node's logs began.

    Args:
        places: Where the node lives.
        user: As the API server calls it, for example ``system:serviceaccount:NAMESPACE:NAME``.
        since: A time as objects have it; what was asked before is left out.
    """
    return of_user(_lines(places), user, since=since)


def of_user(lines: Iterable[str], user: str, *, since: str = "") -> frozenset[Request]:
    """The kinds of requests in lines of an audit log. Requests for paths that are no resources are left out.

    A server-side apply that made the object is logged as a patch alone, and needs the right to create as well.
    """
    found: set[Request] = set()
    for line in lines:
        if f'"{user}"' not in line:
            continue  # parsing takes 20 times as long as looking
        event: dict[str, Any] = json.loads(line)
        target: dict[str, Any] | None = event.get("objectRef")
        if event["user"]["username"] != user or target is None or event["requestReceivedTimestamp"] < since:
            continue
        request = Request(
            group=target.get("apiGroup", ""),
            resource="/".join(filter(None, (target["resource"], target.get("subresource")))),
            verb=event["verb"],
            namespace=target.get("namespace", ""),
            allowed=event.get("annotations", {}).get("authorization.k8s.io/decision") != "forbid",
        )
        found.add(request)
        if request.verb == "patch" and event.get("responseStatus", {}).get("code") == 201:
            found.add(replace(request, verb="create"))
    return frozenset(found)
