/**
 * A node whose engine costs next to nothing, so that what relays it shows: our agent with an engine in its own process,
 * and the same engine as a server of OpenAI's API for those who are compared. `flow-64x20` says 64 tokens at 20 ms, each
 * with the time at which it was said; `flow-20000x0` says them as fast as they are taken.
 */
import { createServer, type ServerResponse } from "node:http";
import { setImmediate } from "node:timers/promises";
import {
  createMemoryFiles,
  createNodeHost,
  type Engine,
  type EngineAttempt,
  type EngineOutcome,
  type EngineSink,
  startAgent,
} from "@gfe/agent";
import { FLOOD_TOKEN, FLOWS, stamp } from "./flow.ts";

/** Tokens of a flood in one turn of the event loop. */
const BURST = 256;
const TICK_MS = 1;
const SLOTS = 1024;

/** Something to be said by the clock; false when it wants no more. */
interface Flow {
  paceMs: number;
  nextMs: number;
  say(): boolean;
}

/** Flows by the millisecond at which they are due: one timer for all of them. */
const due = new Map<number, Flow[]>();
let lastMs = Math.floor(performance.now());

function plan(flow: Flow): void {
  const at = Math.max(lastMs + 1, Math.ceil(flow.nextMs));
  const flows = due.get(at);
  if (flows) flows.push(flow);
  else due.set(at, [flow]);
}

setInterval(() => {
  const now = Math.floor(performance.now());
  while (lastMs < now) {
    const flows = due.get(++lastMs);
    due.delete(lastMs);
    for (const flow of flows ?? []) {
      if (!flow.say()) continue;
      flow.nextMs += flow.paceMs;
      plan(flow);
    }
  }
}, TICK_MS);

/** Says so many tokens at a pace; resolves after the last, or when `say` wants no more. */
function paced(count: number, paceMs: number, say: (text: string) => boolean): Promise<number> {
  return new Promise((resolve) => {
    let said = 0;
    plan({
      paceMs,
      nextMs: performance.now(),
      say() {
        const wanted = say(stamp());
        if (wanted && ++said < count) return true;
        resolve(said);
        return false;
      },
    });
  });
}

function shapeOf(model: string): { count: number; paceMs: number } {
  const [, count = "1", pace = "0"] = /-(\d+)x(\d+)$/.exec(model) ?? [];
  return { count: Number(count), paceMs: Number(pace) };
}

const engine: Engine = {
  kind: "scripted",
  label: "flow",
  models: async () =>
    FLOWS.map((name) => ({ name, contextLength: 1_000_000, capabilities: ["chat"], slots: SLOTS })),
  async run(attempt: EngineAttempt, sink: EngineSink, signal: AbortSignal): Promise<EngineOutcome> {
    const { count, paceMs } = shapeOf(attempt.model);
    const said =
      paceMs > 0
        ? await paced(count, paceMs, (text) => {
            if (signal.aborted) return false;
            sink.text(text);
            return true;
          })
        : await flood(count, sink, signal);
    signal.throwIfAborted();
    return { type: "done", finish: ["stop"], usage: { inputTokens: 9, outputTokens: said } };
  },
};

async function flood(count: number, sink: EngineSink, signal: AbortSignal): Promise<number> {
  for (let said = 1; said <= count; said++) {
    sink.text(FLOOD_TOKEN);
    const wait = sink.ready();
    if (wait) await wait;
    else if (said % BURST === 0) await setImmediate();
    signal.throwIfAborted();
  }
  return count;
}

const server = createServer((request, response) => {
  request.socket.setNoDelay(true);
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => {
    if (request.method !== "POST") {
      response.writeHead(200, { "content-type": "application/json" });
      return response.end("{}");
    }
    void serve(response, (JSON.parse(Buffer.concat(chunks).toString()) as { model: string }).model);
  });
});

async function serve(response: ServerResponse, model: string): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream" });
  const { count, paceMs } = shapeOf(model);
  const piece = (text: string) =>
    `data: {"id":"chatcmpl-flow","object":"chat.completion.chunk","created":1,"model":"${model}","choices":[{"index":0,"delta":{"content":"${text}"},"finish_reason":null}]}\n\n`;
  if (paceMs > 0)
    await paced(count, paceMs, (text) => {
      response.write(piece(text));
      return !response.destroyed;
    });
  else
    for (let said = 0; said < count && !response.destroyed; said += BURST) {
      const burst = piece(FLOOD_TOKEN).repeat(Math.min(BURST, count - said));
      if (response.write(burst)) await setImmediate();
      else await new Promise((resolve) => response.once("drain", resolve).once("close", resolve));
    }
  response.end("data: [DONE]\n\n");
}

const { HUB_URL, AGENT_TOKEN } = process.env;
if (HUB_URL !== undefined && AGENT_TOKEN !== undefined) {
  const host = createNodeHost({ files: createMemoryFiles(), configDir: "/config", stateDir: "/state" });
  await startAgent({ host, hubUrl: HUB_URL, token: AGENT_TOKEN, engines: [engine], gpus: [], slots: SLOTS });
}
server.keepAliveTimeout = 0;
server.listen(Number(process.env.PORT), "127.0.0.1");
