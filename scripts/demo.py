"""The demonstration: the whole loop by ``distillery run``, then one question to the student that it promoted.

    make demo

You can stop it at any time; run it again to resume.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import openai

RUN = "alfworld-micro"
DISTILLERY = Path(sys.executable).with_name("distillery")

TASK = """\
You are in the middle of a room. Looking quickly around you, you see a bed 1, a desk 2, a desk 1, a drawer 1, a \
garbagecan 1, a laundryhamper 1, a shelf 2, a shelf 1, and a sidetable 1.
Your task is to: put some book in bed."""


def main() -> int:
    """Run, serve, ask. The exit code is that of the command that failed, if one did."""
    if code := wait_for([DISTILLERY, "run", Path(__file__).parents[1] / "examples" / "demo.yaml"]):
        return code
    with subprocess.Popen([DISTILLERY, "serve", RUN, "--port", "0"], stdout=subprocess.PIPE, text=True) as server:
        try:
            return ask(server)
        finally:
            server.terminate()


def wait_for(command: Sequence[str | Path]) -> int:
    """Return a command's exit code. Ctrl-C reaches the command too; it gets the time to stop its own processes."""
    with subprocess.Popen(command) as process:
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                return process.wait()


def ask(server: subprocess.Popen[str]) -> int:
    """Wait for the endpoint, ask for the first move of a game, and show it."""
    assert server.stdout is not None
    url = ""
    for line in server.stdout:
        print(line, end="", flush=True)
        if found := re.search(r"serving \S+ at (\S+);", line):
            url = found[1]
            break
    if not url:
        return server.wait()
    client = openai.OpenAI(base_url=url, api_key="none")
    answer = client.chat.completions.create(
        model=RUN, messages=[{"role": "user", "content": TASK}], temperature=0, max_tokens=24, stop=["\n"]
    )
    print("\nThe student's first move, by a chat completion:\n")
    print("  " + TASK.replace("\n", "\n  "))
    print(f"  > {(answer.choices[0].message.content or '').strip()}\n")
    print(f"Serve it yourself: {DISTILLERY} serve {RUN}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
