/** A small HTTP server that answers as an engine would, for tests. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface EngineRequest {
  path: string;
  /** With its query. */
  url: string;
  body: Record<string, unknown>;
  headers: IncomingMessage["headers"];
}

export type Answer =
  | object
  | string
  | ((request: EngineRequest, response: ServerResponse) => void | Promise<void>);

export interface EngineServer {
  url: string;
  requests: EngineRequest[];
  /** Paths that answer; changed while it runs. `*` is for all others. */
  answers: Record<string, Answer>;
  /** Resolves when a request's connection was cut before its answer ended. */
  aborted: Promise<EngineRequest>;
  close(): Promise<void>;
}

export async function createEngineServer(answers: Record<string, Answer>, port = 0): Promise<EngineServer> {
  const requests: EngineRequest[] = [];
  const aborted = Promise.withResolvers<EngineRequest>();
  const server = createServer(async (request, response) => {
    const path = (request.url ?? "/").split("?")[0]!;
    let text = "";
    for await (const chunk of request) text += chunk;
    const seen = {
      path,
      url: request.url ?? "/",
      body: text === "" ? {} : JSON.parse(text),
      headers: request.headers,
    };
    requests.push(seen);
    response.on("close", () => {
      if (!response.writableEnded) aborted.resolve(seen);
    });
    const answer = self.answers[path] ?? self.answers["*"];
    if (answer === undefined) return void response.writeHead(404).end("404 page not found");
    if (typeof answer === "function") return void answer(seen, response);
    if (typeof answer === "string") return void response.writeHead(200).end(answer);
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const self: EngineServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    answers,
    aborted: aborted.promise,
    async close() {
      server.closeAllConnections();
      if (server.listening) await new Promise((resolve) => server.close(resolve));
    },
  };
  return self;
}

/** Answers with lines of JSON, as Ollama streams. */
export const ndjson =
  (...lines: object[]): Answer =>
  (_request, response) => {
    response.writeHead(200, { "content-type": "application/x-ndjson" });
    for (const line of lines) response.write(`${JSON.stringify(line)}\n`);
    response.end();
  };

/** Answers with server-sent events and `[DONE]`, as OpenAI's API streams. */
export const sse =
  (...chunks: object[]): Answer =>
  (_request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (const chunk of chunks) response.write(`data: ${JSON.stringify(chunk)}\n\n`);
    response.end("data: [DONE]\n\n");
  };
