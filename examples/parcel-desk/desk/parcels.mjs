// What the carrier has on record, and the tools that the model may call.
import { readFileSync } from "node:fs";

const PARCELS = JSON.parse(readFileSync(new URL("parcels.json", import.meta.url), "utf8"));
const text = (description, more = {}) => ({ type: "string", description, ...more });

export const TOOLS = [
  tool("find_parcel", "The record of one parcel.", { parcel: text("Its number.", { pattern: "^LP-\\d{4}$" }) }),
  tool("book_redelivery", "Has a parcel brought again on the next working day.", { note: text("For the driver.") }),
  tool("open_claim", "Opens a claim against the carrier.", { reason: text("Why, in a line.") }),
];

export function run(name, given) {
  if (name === "find_parcel") return PARCELS[given.parcel] ?? { error: `no parcel ${given.parcel}` };
  if (TOOLS.some((known) => known.function.name === name)) return { queued: true };
  return { error: `no tool ${name}` };
}

function tool(name, description, properties) {
  const parameters = { type: "object", properties, required: Object.keys(properties) };
  return { type: "function", function: { name, description, parameters } };
}
