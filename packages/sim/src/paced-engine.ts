/** An OpenAI-compatible engine of its own process's port: says as many words as asked for, at the pace in the model's name. */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface PacedEngine {
  url: string;
  model: string;
  /** Answers that run. */
  readonly running: number;
  /** Answers whose asker left before their end. */
  readonly cut: number;
  /** Refuses every chat from now on, with this status; 0 serves again. */
  refuse(status: number): void;
  close(): Promise<void>;
}

/** `tokens` words a chat, one every `paceMs`. */
export async function startPacedEngine(model: string, tokens: number, paceMs: number): Promise<PacedEngine> {
  let running = 0;
  let cut = 0;
  let refusal = 0;
  const json = (response: ServerResponse, body: object, status = 200) =>
    void response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
  const server = createServer(async (request, response) => {
    request.socket.setNoDelay(true);
    let text = "";
    for await (const chunk of request) text += chunk;
    if (request.url === "/v1/models")
      return json(response, { object: "list", data: [{ id: model, object: "model", owned_by: "test" }] });
    if (request.url !== "/v1/chat/completions") return json(response, {}, 404);
    if (refusal) return json(response, { error: { message: "out of order" } }, refusal);
    const { stream, max_tokens: most = tokens } = JSON.parse(text) as {
      stream?: boolean;
      max_tokens?: number;
    };
    const count = Math.min(tokens, most);
    const usage = { prompt_tokens: 3, completion_tokens: count, total_tokens: count + 3 };
    const words = Array.from({ length: count }, (_, i) => ` w${i}`);
    if (!stream)
      return json(response, {
        choices: [
          { index: 0, message: { role: "assistant", content: words.join("") }, finish_reason: "stop" },
        ],
        usage,
      });
    running++;
    response.once("close", () => {
      running--;
      if (!response.writableEnded) cut++;
    });
    response.writeHead(200, { "content-type": "text/event-stream" });
    const say = (chunk: object) => response.write(`data: ${JSON.stringify(chunk)}\n\n`);
    for (const content of words) {
      if (paceMs > 0) await new Promise((resolve) => setTimeout(resolve, paceMs));
      if (response.destroyed) return;
      say({ choices: [{ index: 0, delta: { content }, finish_reason: null }] });
    }
    say({ choices: [{ index: 0, delta: {}, finish_reason: "stop" }] });
    say({ choices: [], usage });
    response.end("data: [DONE]\n\n");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    model,
    get running() {
      return running;
    },
    get cut() {
      return cut;
    },
    refuse(status) {
      refusal = status;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
