"""Counts the servers that tests start, in whichever process: Python itself loads this module when it starts.

`tests/conftest.py` puts this folder into $PYTHONPATH and names the folder for the counts; what is counted there is said
at the end of the tests. Nothing here may cost time: it is loaded by every Python that a test starts.
"""

import os
import sys

FOLDER = "DISTILLERY_TEST_COUNTS"
"""The variable that names the folder for the counts."""

MODEL_SERVERS, DATABASES = "model servers", "Postgres instances"
_SIGNS = {"vllm.entrypoints.openai.api_server": MODEL_SERVERS, "initdb": DATABASES}


def kind_of(command: object) -> str:
    """Return what a command starts: a model server, a Postgres with a data folder of its own, or neither (empty)."""
    words = command.split() if isinstance(command, str) else command if isinstance(command, (list, tuple)) else ()
    return next((_SIGNS[name] for word in words if (name := os.path.basename(os.fsdecode(word))) in _SIGNS), "")


def count(event: str, arguments: tuple[object, ...]) -> None:
    """For :func:`sys.addaudithook`: write the name of the present test to the count of what a command starts."""
    folder = os.environ.get(FOLDER) if event == "subprocess.Popen" else None
    if folder and (kind := kind_of(arguments[1])):
        test = os.environ.get("PYTEST_CURRENT_TEST", "before any test").partition(" ")[0]
        with open(os.path.join(folder, kind), "a") as file:
            file.write(f"{test}\n")


if __name__ == "sitecustomize":  # and not where another module takes names from here
    sys.addaudithook(count)
