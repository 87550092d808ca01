// Any OpenAI-compatible chat endpoint; without OLLAMA_BASE_URL Ollama on this machine.
const URL = `${process.env.OLLAMA_BASE_URL ?? "http://localhost:11434/v1"}/chat/completions`;

export class ModelError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

export async function complete(request) {
  const reply = await post(request);
  const { usage } = reply;
  return {
    said: reply.choices[0].message,
    usage: {
      provider: "ollama",
      model: request.model,
      input_tokens: usage.prompt_tokens,
      cached_tokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
      output_tokens: usage.completion_tokens,
    },
  };
}

async function post(request) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(URL, { method: "POST", headers, body: JSON.stringify(request) }).catch((error) => {
    throw new ModelError("connection", `${URL}: ${error.cause?.message ?? error.message}`);
  });
  if (!response.ok) throw new ModelError("provider-error", `${URL}: HTTP ${response.status}`);
  return response.json();
}
