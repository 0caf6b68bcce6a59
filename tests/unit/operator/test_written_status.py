"""The status that the operator wrote last: other writers are noticed."""

from __future__ import annotations

from typing import Any

import pytest

from distillery_operator.written_status import WrittenStatus

STATUS = {"phase": "Complete", "rounds": [{"metricValue": 1.0, "arms": {"baseline": {"ci": [0.7, 1.0]}}}]}


def body(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "run", "namespace": "team"}, "status": status}


@pytest.fixture
def written() -> WrittenStatus:
    """A status that was written, and that the API server reports. It writes a number as 1 that was sent as 1.0."""
    written = WrittenStatus(seconds=0)
    written.keep(STATUS)
    written.compare(body(phase="Complete", rounds=[{"metricValue": 1, "arms": {"baseline": {"ci": [0.7, 1]}}}]))
    return written


def test_status_is_not_written_again_when_the_api_server_reports_it(written: WrittenStatus):
    assert written.differs(STATUS) is False


def test_status_is_written_again_when_another_writer_changed_it(written: WrittenStatus):
    written.compare(body(phase="Failed", rounds=[]))
    assert written.differs(STATUS) is True


def test_progress_is_of_another_writer(written: WrittenStatus):
    written.compare(body(**STATUS, progress={"done": 1}))
    assert written.differs(STATUS) is False
