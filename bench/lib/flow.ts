/** Streams from source.ts, read: how many tokens came, how long each was on its way, how long nothing came. */
import { Agent, request as httpRequest } from "node:http";
import { setTimeout } from "node:timers/promises";
import type { Target } from "./load.ts";

export const FLOWS = ["flow-64x20", "flow-24x100", "flow-20000x0", "flow-2000x1000"];
export const FLOOD_TOKEN = "token ";
const FLOOD_MARK = Buffer.from(`"${FLOOD_TOKEN}"`);

/** Microseconds on the clock that all processes of a machine share. */
const nowUs = (): number => Number(process.hrtime.bigint() / 1000n);
export const stamp = (): string => `t${nowUs()} `;

export interface FlowTiming {
  tokens: number;
  /** Of each token, from its engine to here. */
  delaysMs: number[];
  /** The longest time between two. */
  stallMs: number;
}

const agent = new Agent({ keepAlive: true, maxSockets: 5000 });

/** One stream to its end. Rejects where tokens are missing. */
export function readFlow(target: Target, model: string, signal?: AbortSignal): Promise<FlowTiming> {
  const [, count, pace] = /-(\d+)x(\d+)$/.exec(model)!.map(Number) as [number, number, number];
  const body = JSON.stringify({
    model,
    messages: [{ role: "user", content: "Flow." }],
    max_tokens: count,
    stream: true,
  });
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest(
      {
        ...(signal ? { signal } : {}),
        ...{ agent, host: "127.0.0.1", port: target.port, path: "/v1/chat/completions", method: "POST" },
        headers: {
          "content-type": "application/json",
          "content-length": Buffer.byteLength(body),
          ...target.headers,
        },
      },
      (response) => {
        const reader = pace === 0 ? createCounter() : createTimer();
        response.on("data", reader.take);
        response.on("error", reject);
        response.on("end", () => {
          const timing = reader.end();
          if (response.statusCode === 200 && timing.tokens === count) resolve(timing);
          else
            reject(
              new Error(`${target.name}: status ${response.statusCode}, ${timing.tokens} of ${count} tokens`),
            );
        });
      },
    );
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

/** Counts and no more: at a flood the reader must not be what is measured. */
function createCounter() {
  let tokens = 0;
  let rest: Buffer = Buffer.alloc(0);
  return {
    take(chunk: Buffer) {
      const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      let end = 0;
      for (let at = bytes.indexOf(FLOOD_MARK); at !== -1; at = bytes.indexOf(FLOOD_MARK, end)) {
        tokens++;
        end = at + FLOOD_MARK.length;
      }
      rest = bytes.subarray(Math.max(end, bytes.length - FLOOD_MARK.length + 1));
    },
    end: (): FlowTiming => ({ tokens, delaysMs: [], stallMs: 0 }),
  };
}

function createTimer() {
  const delaysMs: number[] = [];
  let rest = "";
  let lastUs = 0;
  let stallMs = 0;
  return {
    take(chunk: Buffer) {
      const now = nowUs();
      const text = rest + chunk.toString("latin1");
      let end = 0;
      for (const match of text.matchAll(/"t(\d+) "/g)) {
        delaysMs.push((now - Number(match[1])) / 1000);
        end = match.index + match[0].length;
        if (lastUs > 0) stallMs = Math.max(stallMs, (now - lastUs) / 1000);
        lastUs = now;
      }
      rest = text.slice(Math.max(end, text.length - 24));
    },
    end: (): FlowTiming => ({ tokens: delaysMs.length, delaysMs, stallMs }),
  };
}

/** `count` streams, begun evenly over `overMs`. */
export const readFlows = (
  target: Target,
  model: string,
  count: number,
  overMs: number,
): Promise<FlowTiming[]> =>
  Promise.all(
    Array.from({ length: count }, async (_, i) => {
      await setTimeout((i * overMs) / count);
      return readFlow(target, model);
    }),
  );
