/**
 * The scripted engine behind every gateway: OpenAI's API, a known number of deltas at a known pace. Deltas go by an
 * absolute schedule, so that a late one does not push the next. `pace_ms` and `deltas` come in the model's name
 * (`bench-64x20`; `bench-64x20after20` begins after as many milliseconds), because gateways pass that on untouched.
 */
import { createServer, type ServerResponse } from "node:http";

const server = createServer((request, response) => {
  request.socket.setNoDelay(true);
  if (request.url === "/v1/models")
    return json(response, {
      object: "list",
      data: [
        "bench-64x20",
        "bench-64x20after20",
        "bench-24x100",
        "bench-24x20",
        "bench-64x0",
        "bench-5000x0",
        "bench-1x0",
        "bench-1x0after20",
      ].map((id) => ({
        id,
        object: "model",
        owned_by: "bench",
      })),
    });
  if (request.method !== "POST") return json(response, { ok: true });
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    const body = JSON.parse(Buffer.concat(chunks).toString()) as {
      model: string;
      stream?: boolean;
      stream_options?: { include_usage?: boolean };
    };
    const [, deltas = "64", pace = "0", after = "0"] = /-(\d+)x(\d+)(?:after(\d+))?$/.exec(body.model) ?? [];
    if (body.stream)
      void stream(
        response,
        body.model,
        { deltas: Number(deltas), paceMs: Number(pace), afterMs: Number(after) },
        body.stream_options?.include_usage === true,
      );
    else json(response, whole(body.model, Number(deltas)));
  });
});

async function stream(
  response: ServerResponse,
  model: string,
  { deltas, paceMs, afterMs }: { deltas: number; paceMs: number; afterMs: number },
  usage: boolean,
): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream" });
  const head = `data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"${model}","choices":[{"index":0,"delta":`;
  const startedAt = performance.now() + afterMs;
  let gone = false;
  response.on("close", () => {
    gone = true;
  });
  for (let i = 0; i < deltas && !gone; i++) {
    const waitMs = startedAt + i * paceMs - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    response.write(
      `${head}${i === 0 ? '{"role":"assistant","content":"token "}' : '{"content":"token "}'},"finish_reason":null}]}\n\n`,
    );
  }
  response.write(`${head}{},"finish_reason":"stop"}]}\n\n`);
  if (usage)
    response.write(
      `data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"${model}","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":${deltas},"total_tokens":${deltas + 9}}}\n\n`,
    );
  response.end("data: [DONE]\n\n");
}

function whole(model: string, deltas: number): object {
  return {
    id: "chatcmpl-bench",
    object: "chat.completion",
    created: 1,
    model,
    choices: [
      { index: 0, message: { role: "assistant", content: "token ".repeat(deltas) }, finish_reason: "stop" },
    ],
    usage: { prompt_tokens: 9, completion_tokens: deltas, total_tokens: deltas + 9 },
  };
}

function json(response: ServerResponse, body: object): void {
  response.writeHead(200, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

// Idle between one measurement and the next: no connection may close under a request.
server.keepAliveTimeout = 0;
server.listen(Number(process.env.PORT), "127.0.0.1");
