/** The load: streams whose deltas are timed as they arrive, and requests as fast as they are answered. */
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { setTimeout } from "node:timers/promises";

export interface Target {
  name: string;
  port: number;
  headers: Record<string, string>;
}

export interface StreamTiming {
  ttftMs: number;
  /** Between one delta and the next. */
  gapsMs: number[];
  totalMs: number;
}

const DELTAS = 64;
const MESSAGES = [{ role: "user", content: "Say token sixty-four times, please." }];
/** Servers close what idles, some after 5 s: a connection that lies so long is not used again. */
const IDLE_MS_MAX = 2_500;
const agents = new Map<number, { agent: Agent; usedAtMs: number }>();

function agentOf(port: number): Agent {
  const known = agents.get(port);
  const now = performance.now();
  if (known && now - known.usedAtMs <= IDLE_MS_MAX) {
    known.usedAtMs = now;
    return known.agent;
  }
  if (known && Object.keys(known.agent.sockets).length === 0) known.agent.destroy();
  const agent = new Agent({ keepAlive: true, maxSockets: 2000 });
  agents.set(port, { agent, usedAtMs: now });
  return agent;
}

/** One request; its answer comes to `take`. */
function post(
  target: Target,
  body: object,
  take: (response: IncomingMessage) => void,
  fail: (error: Error) => void,
): void {
  const text = JSON.stringify(body);
  const outgoing = httpRequest(
    {
      agent: agentOf(target.port),
      host: "127.0.0.1",
      port: target.port,
      path: "/v1/chat/completions",
      method: "POST",
      headers: {
        "content-type": "application/json",
        "content-length": Buffer.byteLength(text),
        ...target.headers,
      },
    },
    take,
  );
  outgoing.on("error", fail);
  outgoing.end(text);
}

/** One stream to its end. Throws where deltas are missing. */
export function timeStream(target: Target, model: string): Promise<StreamTiming> {
  return new Promise((resolve, reject) => {
    const deltas = Number(/-(\d+)x/.exec(model)?.[1] ?? DELTAS);
    const body = { model, messages: MESSAGES, max_tokens: deltas, stream: true };
    const startedAt = performance.now();
    const arrivals: number[] = [];
    let tail = "";
    let ended = false;
    const take = (response: IncomingMessage) => {
      response.setEncoding("latin1");
      response.on("data", (chunk: string) => {
        const now = performance.now();
        const text = tail + chunk;
        let at = text.indexOf('"content":"token ');
        let last = 0;
        while (at !== -1) {
          arrivals.push(now);
          last = at + 17;
          at = text.indexOf('"content":"token ', last);
        }
        ended ||= text.includes("[DONE]");
        tail = text.slice(Math.max(last, text.length - 40));
      });
      response.on("end", () => {
        if (response.statusCode !== 200 || arrivals.length !== deltas || !ended) {
          return reject(
            new Error(
              `${target.name}: status ${response.statusCode}, ${arrivals.length} of ${deltas} deltas, ${ended ? "ended" : "cut"} ${tail}`,
            ),
          );
        }
        resolve({
          ttftMs: arrivals[0]! - startedAt,
          gapsMs: arrivals.slice(1).map((t, i) => t - arrivals[i]!),
          totalMs: performance.now() - startedAt,
        });
      });
    };
    post(target, body, take, reject);
  });
}

/** `count` streams, begun evenly over `overMs`; 0: all in one instant. */
export const timeStreams = (
  target: Target,
  model: string,
  count: number,
  overMs: number,
): Promise<StreamTiming[]> =>
  Promise.all(
    Array.from({ length: count }, async (_, i) => {
      if (overMs > 0) await setTimeout((i * overMs) / count);
      return timeStream(target, model);
    }),
  );

/** Answered requests a second, `concurrency` at a time. Throws at the first answer that is not 200. */
export async function requestsPerSecond(
  target: Target,
  model: string,
  options: { stream: boolean; concurrency: number; durationMs: number },
): Promise<number> {
  const until = performance.now() + options.durationMs;
  const startedAt = performance.now();
  let done = 0;
  await Promise.all(
    Array.from({ length: options.concurrency }, async () => {
      while (performance.now() < until) {
        if (options.stream) await timeStream(target, model);
        else await plain(target, model);
        done++;
      }
    }),
  );
  return (done * 1000) / (performance.now() - startedAt);
}

function plain(target: Target, model: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const take = (response: IncomingMessage) => {
      response.resume();
      response.on("end", () =>
        response.statusCode === 200
          ? resolve()
          : reject(new Error(`${target.name} answered ${response.statusCode}`)),
      );
    };
    post(target, { model, messages: MESSAGES, max_tokens: DELTAS }, take, reject);
  });
}
