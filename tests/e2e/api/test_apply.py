"""Server-side apply: GitOps applies a run again and again, and more than one of its owners may have a say."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from hack.testbed.client.api import Api, ApiError
from tests.e2e.support.documents import small
from tests.e2e.support.runs import Runs, space

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def users(api: Api) -> Generator[Runs]:
    with space(api, "e2e-apply") as made:
        yield made


def test_run_writes_nothing_when_it_is_applied_again(users: Runs):
    first = users.apply(small("again", suspend=True), fieldManager="gitops")
    assert users.apply(small("again", suspend=True), fieldManager="gitops")["spec"] == first["spec"]
    assert users.get("again")["metadata"]["generation"] == 1


def test_field_of_another_manager_conflicts_and_names_it(users: Runs):
    users.apply(small("owned", suspend=True), fieldManager="gitops")
    other: dict[str, Any] = {**small("owned"), "spec": {"suspend": False}}
    with pytest.raises(ApiError) as caught:
        users.api.apply(f"{users.collection}/owned", other, fieldManager="somebody")
    assert caught.value.status == 409
    assert '"gitops"' in str(caught.value)
    assert ".spec.suspend" in str(caught.value)
    assert users.get("owned")["spec"]["suspend"] is True


def test_field_gets_its_default_when_it_is_no_longer_applied(users: Runs):
    users.apply(small("reset", suspend=True, ttlSecondsAfterFinished=60), fieldManager="gitops")
    users.apply(small("reset", suspend=True), fieldManager="gitops")
    spec = users.get("reset")["spec"]
    assert "ttlSecondsAfterFinished" not in spec
    assert spec["suspend"] is True
