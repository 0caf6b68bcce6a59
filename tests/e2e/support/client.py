"""A steady client in a pod: streamed requests to several addresses, each over a connection of its own.

Its text is given to the Python of the gateway's image, so it takes nothing from this repository. What came of a request
is a line of JSON on standard output: see ``serving.Answer``.

ADDRESSES    JSON: URLs of chat completions, by name
BODY         JSON: of every request
"""

from __future__ import annotations

import asyncio
import json
import os
import time

import aiohttp

AT_ONCE = 2
PAUSE = 0.5  # between requests: what starts again meanwhile needs the machine, too
PATIENCE = 120.0


async def ask(session: aiohttp.ClientSession, url: str, body: object) -> dict[str, object]:
    """What came of a request."""
    began, status, models, problem = time.time(), 0, set[str](), "the stream ended before its end"
    try:
        async with session.post(url, json=body) as answer:
            status = answer.status
            if status != 200:
                problem = (await answer.text())[:300]
            else:
                async for line in answer.content:
                    data = line.removeprefix(b"data: ").strip()
                    if data == b"[DONE]":
                        problem = ""
                    elif data:
                        models.add(json.loads(data)["model"])
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
        problem = repr(error)
    return {"began": began, "ended": time.time(), "status": status, "models": sorted(models), "problem": problem}


async def main() -> None:
    """Ask until the pod is deleted."""
    addresses, body = json.loads(os.environ["ADDRESSES"]), json.loads(os.environ["BODY"])
    # another connection is another pod, where the address is a Service's
    connector = aiohttp.TCPConnector(force_close=True)
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def repeat(to: str, url: str) -> None:
            while True:
                print(json.dumps({"to": to, **await ask(session, url, body)}), flush=True)
                await asyncio.sleep(PAUSE)

        await asyncio.gather(*(repeat(*address) for address in addresses.items() for _ in range(AT_ONCE)))


if __name__ == "__main__":
    asyncio.run(main())
