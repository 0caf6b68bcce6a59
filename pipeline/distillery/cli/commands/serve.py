"""``distillery serve``: a student of a run at an OpenAI-compatible endpoint of this machine."""

from __future__ import annotations

import argparse
import asyncio
import signal

from distillery.cli.display.overview import parse_stored_run
from distillery.cli.errors import EXIT_FAILED, complain
from distillery.database import Database
from distillery.database.runs import RunStore
from distillery.database.stages import StageStore, states_of
from distillery.local import workspace
from distillery.local.servers import find_model_for_users, select_model
from distillery.serving.vllm import ServerFailed, VllmServer


async def serve(options: argparse.Namespace) -> int:
    """Serve a student until a signal comes."""
    with workspace.database() as (dsn, _):
        async with Database(dsn) as database:
            row = await RunStore(database).find(options.run)
            run = parse_stored_run(row)
            stages = await StageStore(database, row["id"]).read()
    chosen = select_model(run, states_of(stages), options.round)
    store = workspace.store_of(run, str(row["uid"]), stages)
    model = find_model_for_users(chosen, run, store)
    task = asyncio.current_task()
    assert task is not None
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, task.cancel)
    server = VllmServer(
        model,
        workspace.folder_of(run) / "logs" / "serve.log",
        port=options.port,
        private=False,
        arguments=run.spec.model_server.extra_args,
    )
    what = f"the student of {chosen.trained_by}" if chosen.trained_by else "the base model"
    print(f"starting vLLM with {what}; its log is {server.log}", flush=True)
    try:
        await server.start()
        print(
            f"serving {model.name} at {server.base_url}; try\n\n"
            f"  curl {server.base_url}/chat/completions -H 'Content-Type: application/json' \\\n"
            f'    -d \'{{"model": "{model.name}", "messages": [{{"role": "user", "content": "..."}}]}}\'\n',
            flush=True,
        )
        code = await server.wait()
        return complain(f"vLLM ended with code {code}; see {server.log}", EXIT_FAILED)
    except ServerFailed as error:
        return complain(str(error), EXIT_FAILED)
    except asyncio.CancelledError:  # asked to stop, as a server is
        return 0
    finally:
        await server.stop()
