import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { answer, MAX_ITERATIONS } from "../desk/agent.mjs";
import { run } from "../desk/parcels.mjs";

const usage = { input_tokens: 10, output_tokens: 1 };
const call = (name, given) => ({ id: "1", function: { name, arguments: JSON.stringify(given) } });

test("a parcel is found by its number, an unknown one is told", () => {
  assert.equal(run("find_parcel", { parcel: "LP-1004" }).status, "lost");
  assert.deepEqual(run("find_parcel", { parcel: "LP-0000" }), { error: "no parcel LP-0000" });
  assert.deepEqual(run("rm", {}), { error: "no tool rm" });
});

test("the model sees what its tools return, and its last word is the answer", async () => {
  const said = [{ tool_calls: [call("find_parcel", { parcel: "LP-1004" })] }, { content: '{"action": "claim"}' }];
  const seen = [];
  const ask = async ({ messages }) => (seen.push(messages.at(-1)), { said: said.shift(), usage });
  const reply = await answer("Where is LP-1004?", ask);
  assert.deepEqual(reply.output, { action: "claim" });
  assert.deepEqual(reply.tool_calls, [{ name: "find_parcel", arguments: { parcel: "LP-1004" } }]);
  assert.equal(JSON.parse(seen[1].content).status, "lost");
  assert.equal(reply.usage.length, reply.iterations);
});

test("a model that only calls tools is stopped", async () => {
  const ask = async () => ({ said: { tool_calls: [call("find_parcel", { parcel: "LP-1001" })] }, usage });
  const reply = await answer("Where?", ask);
  assert.equal(reply.iterations, MAX_ITERATIONS);
  assert.equal(reply.output, null);
});

test("each request gets one reply with its id, also without a model", async () => {
  const env = { ...process.env, OLLAMA_BASE_URL: "http://127.0.0.1:1/v1" };
  const desk = spawn(process.execPath, ["desk/main.mjs"], { env, stdio: ["pipe", "pipe", "inherit"] });
  const replies = createInterface({ input: desk.stdout })[Symbol.asyncIterator]();
  for (const id of ["a", "b"]) {
    desk.stdin.write(`${JSON.stringify({ id, input: "Hello\u2028there", repeat: 0, deadline_s: 60 })}\n`);
    const reply = JSON.parse((await replies.next()).value);
    assert.equal(reply.id, id);
    assert.equal(reply.error.by, "infrastructure");
  }
  desk.stdin.end();
  const [code] = await once(desk, "close");
  assert.equal(code, 0);
});
