// The agent: a customer's message in, an action out.
import { readFile } from "node:fs/promises";
import { complete } from "./model.mjs";
import { run, TOOLS } from "./parcels.mjs";

const PROMPT = await readFile(new URL("../prompts/parcel-desk.md", import.meta.url), "utf8");

// As in agents/parcel-desk.yaml, which a test of Gatehouse holds it to: Node reads no YAML.
export const MODEL = { model: "llama3.1:70b", temperature: 0.1, max_tokens: 200 };
export const MAX_ITERATIONS = 3;

export async function answer(message, ask = complete) {
  const messages = [
    { role: "system", content: PROMPT },
    { role: "user", content: message },
  ];
  const reply = { output: null, tool_calls: [], usage: [], iterations: 0 };
  while (reply.iterations < MAX_ITERATIONS) {
    reply.iterations += 1;
    const { said, usage } = await ask({ ...MODEL, messages, tools: TOOLS });
    reply.usage.push(usage);
    messages.push(said);
    if (!said.tool_calls?.length) {
      reply.output = parsed(said.content);
      break;
    }
    for (const { id, function: called } of said.tool_calls) {
      const given = JSON.parse(called.arguments);
      reply.tool_calls.push({ name: called.name, arguments: given });
      messages.push({ role: "tool", tool_call_id: id, content: JSON.stringify(run(called.name, given)) });
    }
  }
  return reply;
}

// The model's JSON; what is none stays the text that it is.
function parsed(content) {
  try {
    return JSON.parse(content);
  } catch {
    return content;
  }
}
