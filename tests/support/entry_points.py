"""One agent behind every kind of entry point: an echo that does to its process what a case tells it to.

An input of {"do": FAULT} makes it hang, crash, write garbage, flood or report an error; {"do": "full",
"reply": {...}} makes it answer that reply; anything else is the output.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gatehouse.agent.entrypoint import Url
from gatehouse.agent.interpreter import worker_environment
from gatehouse.agent.providers import resolve
from gatehouse.evals.chat import Chat
from gatehouse.evals.command_pool import CommandPool
from gatehouse.evals.web import Web
from tests.support import agent_server, stub_model
from tests.support.running import pool_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gatehouse.evals.run import Target

BODY = """
    do = x.get("do") if isinstance(x, dict) else None
    if do == "full": return x["reply"]
    if do == "hang": time.sleep(60)
    if do == "crash": os._exit(9)
    if do == "garbage": return object()
    if do == "flood": return "x" * (9 << 20)
    if do == "error": return {"output": None, "error": "I cannot"}
    return x
"""
SYNC = f"import os, time\ndef answer(x):{BODY}"
ASYNC = f"import asyncio, os\nasync def answer(x):{BODY.replace('time.sleep', 'await asyncio.sleep')}"

PYTHON = """
import json, os, sys, time
for line in sys.stdin:
    request = json.loads(line)
    x = request["input"]
    do = x.get("do") if isinstance(x, dict) else None
    if do == "hang": time.sleep(60)
    if do == "crash": os._exit(9)
    if do == "garbage": print("no JSON", flush=True); continue
    while do == "flood": sys.stdout.write("x" * 65536)
    reply = x["reply"] if do == "full" else {"error": "I cannot"} if do == "error" else {"output": x}
    print(json.dumps({"id": request["id"], **reply}), flush=True)
"""

NODE = """
import { createInterface } from "node:readline";
import { writeSync } from "node:fs";
for await (const line of createInterface({ input: process.stdin })) {
  const { id, input } = JSON.parse(line);
  if (input.do === "hang") await new Promise((done) => setTimeout(done, 60000));
  if (input.do === "crash") process.exit(9);
  if (input.do === "garbage") { console.log("no JSON"); continue; }
  while (input.do === "flood") writeSync(1, "x".repeat(4096));
  const reply = { full: input.reply, error: { error: "I cannot" } }[input.do] ?? { output: input };
  console.log(JSON.stringify({ id, ...reply }));
}
"""

SHELL = r"""#!/bin/sh
while IFS= read -r line; do
  id=${line#'{"id": "'}
  id=${id%%'"'*}
  input=${line#*'"input": '}
  input=${input%', "repeat": '*}
  reply='"output": '$input}
  case $input in
    '{"do": "hang"}') sleep 60 ;;
    '{"do": "crash"}') exit 9 ;;
    '{"do": "garbage"}') echo 'no JSON'; continue ;;
    '{"do": "flood"}') yes | tr -d '\n' ;;
    '{"do": "error"}') reply='"error": "I cannot"}' ;;
    '{"do": "full", '*) reply=${input#*'"reply": {'}; reply=${reply%'}'} ;;
  esac
  printf '{"id": "%s", %s\n' "$id" "$reply"
done
"""

COMMANDS = {
    "python": ((sys.executable, "agent.py"), "agent.py", PYTHON),
    "node": (("node", "agent.mjs"), "agent.mjs", NODE),
    "shell": (("./agent.sh",), "agent.sh", SHELL),
}
"""A command's words, its file, and what is in it."""

KINDS = ("sync", "async", *COMMANDS, "url", "chat")


@contextmanager
def target_of(kind: str, folder: Path, concurrency: int) -> Iterator[Target]:
    """The agent behind that kind of entry point, with its files in `folder` and results in `folder/out`."""
    if kind in COMMANDS:
        write_command(kind, folder)
        yield command_pool(COMMANDS[kind][0], folder, concurrency)
    elif kind == "url":
        with agent_server.serve(by_input) as url:
            yield Web(Url(url), os.environ, concurrency=concurrency)
    elif kind == "chat":
        with stub_model.stub_model(lambda _: stub_model.Reply()) as model:
            model.reply = lambda n: completion_of(model.requests[n][2]["messages"][-1]["content"])
            endpoint = resolve("vllm", model.url, {})
            yield Chat(endpoint, "stub", None, {}, concurrency=concurrency)
    else:
        (folder / "agent.py").write_text(SYNC if kind == "sync" else ASYNC)
        yield pool_of(folder, threads=concurrency)


def write_command(kind: str, folder: Path) -> None:
    """The file of a command."""
    _, name, source = COMMANDS[kind]
    (folder / name).write_text(source)
    (folder / name).chmod(0o755)


def command_pool(words: tuple[str, ...], folder: Path, concurrency: int = 4, **environ: str) -> CommandPool:
    """Processes of a command that run in `folder`."""
    (folder / "out").mkdir(exist_ok=True)
    seen = worker_environment(os.environ)
    seen.pop("PYTHONUNBUFFERED", None)  # output is to be as late as on most machines
    return CommandPool(
        words, concurrency=concurrency, environ=seen | environ, cwd=folder, out_dir=folder / "out"
    )


def by_input(asked: agent_server.Asked) -> agent_server.Reply:
    """The server's answer, and the full reply."""
    value = asked.body["input"]
    if isinstance(value, dict) and value.get("do") == "full":
        return agent_server.Reply(value["reply"])
    return agent_server.by_input(asked)


def completion_of(content: str) -> stub_model.Reply:
    """A completion that repeats what was said, with the fault that it asks for."""
    do = json.loads(content).get("do") if content.startswith('{"do"') else None
    faults: dict[Any, stub_model.Reply] = {
        "hang": stub_model.Reply(hang=True),
        "crash": stub_model.Reply(drop=True),
        "garbage": stub_model.Reply(b"no JSON"),
        "flood": stub_model.Reply(stub_model.completion("x" * (9 << 20))),
        "error": stub_model.Reply({"error": {"message": "I cannot"}}),
    }
    return faults.get(do) or stub_model.Reply(stub_model.completion(content))
