// One request a line on standard input, one reply a line on standard output; whatever else there is to say goes to
// standard error, because every line of standard output is read as a reply.
import { createInterface } from "node:readline";
import { answer } from "./agent.mjs";
import { ModelError } from "./model.mjs";

for await (const line of createInterface({ input: process.stdin })) {
  const { id, input } = JSON.parse(line);
  const reply = await answer(input).catch(fault);
  process.stdout.write(`${JSON.stringify({ id, ...reply })}\n`);
}

// A model that cannot be reached is not the agent's mistake: the case is then unscored, not wrong.
function fault(error) {
  if (!(error instanceof ModelError)) throw error;
  return { error: { by: "infrastructure", kind: error.kind, message: error.message } };
}
