/** What Ollama 0.13 answers, and an engine before it. */
import { afterEach } from "vitest";
import type { EngineAttempt } from "../engines/engine.ts";
import { createOllamaEngine } from "../engines/ollama.ts";
import { createNodeHost } from "../node-host.ts";
import { collect } from "./collect.ts";
import { type Answer, createEngineServer, type EngineServer } from "./engine-server.ts";

const host = createNodeHost();
const servers: EngineServer[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

export const tag = (name: string, more: object = {}) => ({
  name,
  model: name,
  modified_at: "2026-10-01T08:00:00.000Z",
  size: 1321098329,
  digest: "baf6a787fdffd633537aa2eb51cfd54cb93ff08e28040095462bb63daf552878",
  details: {
    format: "gguf",
    family: "llama",
    families: ["llama"],
    parameter_size: "1.2B",
    quantization_level: "Q8_0",
  },
  ...more,
});

export const show = (more: object = {}) => ({
  license: "…",
  modelfile: "…",
  parameters: 'stop                           "<|eot_id|>"',
  template: "…",
  details: {},
  model_info: { "general.architecture": "llama", "llama.context_length": 131072 },
  capabilities: ["completion", "tools"],
  ...more,
});

export const shows =
  (byModel: Record<string, object>): Answer =>
  ({ body }, response) => {
    const shown = byModel[String(body.model)];
    response.writeHead(shown ? 200 : 404).end(JSON.stringify(shown ?? { error: "model not found" }));
  };

export async function ollama(answers: Record<string, Answer>, options: { contextLengthMax?: number } = {}) {
  const server = await createEngineServer({
    "/": "Ollama is running",
    "/api/version": { version: "0.13.2" },
    "/api/tags": { models: [tag("llama3.2:1b")] },
    "/api/show": shows({ "llama3.2:1b": show() }),
    ...answers,
  });
  servers.push(server);
  const engine = createOllamaEngine({ host, baseUrl: server.url, ...options });
  return { engine, server };
}

/** Runs one attempt on a model that has been looked up. */
export async function ask(
  answer: Answer,
  attempt: Partial<EngineAttempt> & Pick<EngineAttempt, "body">,
  shown: object = show(),
) {
  const kind = attempt.kind ?? "chat";
  const path = { chat: "/api/chat", completion: "/api/generate", embedding: "/api/embed" }[kind];
  const { engine, server: asked } = await ollama({
    [path]: answer,
    "/api/show": shows({ "llama3.2:1b": shown }),
  });
  await engine.models();
  const sink = collect();
  const outcome = await engine.run(
    { ...attempt, kind, model: "llama3.2:1b" },
    sink,
    new AbortController().signal,
  );
  return { outcome, sink, sent: asked.requests.find((request) => request.path === path)?.body };
}

export const said = (content: string, more: object = {}) => ({
  model: "llama3.2:1b",
  created_at: "2026-11-01T00:00:00Z",
  message: { role: "assistant", content, ...more },
  done: false,
});
export const done = (more: object = {}) => ({
  ...said(""),
  done: true,
  done_reason: "stop",
  total_duration: 1,
  prompt_eval_count: 26,
  eval_count: 3,
  ...more,
});
export const messages = [{ role: "user", content: "Hi" }];
