/**
 * Five times what the nodes can serve, asked for by the clock and not by the answers: what share is refused and how
 * soon, what those who are served wait, how fast their tokens come, and what the hub's memory does. Beside it, in
 * turn, half of what the nodes can serve.
 */
import { Agent, request as httpRequest } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { answers, startChild } from "./lib/child.ts";
import { type BenchHub, startBenchHub } from "./lib/hub.ts";
import { residentBytes } from "./lib/process.ts";
import { median, printTable, quantile, rounded, verdict } from "./lib/statistics.ts";

const ROUNDS = 5;
const ROUND_MS = 8_000;
const SLOTS = 20;
const DELTAS = 24;
/** An answer of 24 deltas at 20 ms. */
const MODEL = "bench-24x20";
const ANSWER_MS = DELTAS * 20;
const CAPACITY_PER_S = (SLOTS * 1000) / ANSWER_MS;
/**
 * The longest that a request may wait for a slot, as an operator would set it who wants short waits; less than the second
 * after which a stream that waits hears its place, and with it its headers.
 */
const QUEUE_WAIT_MS = 800;
const LOADS = [
  { name: "half", factor: 0.5 },
  { name: "5 ×", factor: 5 },
];

interface Asked {
  status: number;
  retryAfter: boolean;
  /** To the first token, or to the refusal. */
  firstMs: number;
  gapsMs: number[];
  whole: boolean;
}

interface Round {
  asked: Asked[];
  peakBytes: number;
}

export async function run({ json }: { json: boolean }): Promise<void> {
  const engine = await startChild([fileURLToPath(new URL("./lib/engine.ts", import.meta.url))], {
    ready: answers("/v1/models"),
  });
  const hub = await startBenchHub({ env: { GFE_QUEUE_WAIT_MS: String(QUEUE_WAIT_MS) } });
  try {
    await hub.joinAgent(["--engine", `http://127.0.0.1:${engine.port}`, "--slots", String(SLOTS)]);
    const rounds = new Map<string, Round[]>(LOADS.map(({ name }) => [name, []]));
    for (let n = 0; n <= ROUNDS; n++) {
      for (const { name, factor } of LOADS) {
        const round = await askByTheClock(hub, CAPACITY_PER_S * factor, n === 0 ? 2_000 : ROUND_MS);
        if (n > 0) rounds.get(name)!.push(round);
        await sleep(QUEUE_WAIT_MS + ANSWER_MS);
      }
    }
    report(rounds, json);
  } finally {
    await hub.stop();
    await engine.stop();
  }
}

function report(rounds: Map<string, Round[]>, json: boolean): void {
  const served = ({ asked }: Round) => asked.filter(({ status }) => status === 200);
  const refused = ({ asked }: Round) => asked.filter(({ status }) => status === 429 || status === 503);
  const of = (name: string, part: (round: Round) => number) => median(rounds.get(name)!.map(part));
  const firsts = (share: number, who: typeof served) => (round: Round) =>
    quantile(
      who(round).map(({ firstMs }) => firstMs),
      share,
    );
  const gap = (round: Round) =>
    quantile(
      served(round).flatMap(({ gapsMs }) => gapsMs),
      0.99,
    );
  const refusedShare = (round: Round) => refused(round).length / round.asked.length;
  printTable(
    [
      ...["asked of what nodes can serve", "refused", "refusal p50 ms", "p99", "served: first token p50 ms"],
      ...["p99", "gap p99 ms", "peak MiB"],
    ],
    LOADS.map(({ name }) => [
      name,
      `${(of(name, refusedShare) * 100).toFixed(1)} %`,
      of(name, firsts(0.5, refused)),
      of(name, firsts(0.99, refused)),
      of(name, firsts(0.5, served)),
      of(name, firsts(0.99, served)),
      of(name, gap),
      of(name, ({ peakBytes }) => peakBytes / 2 ** 20),
    ]),
  );
  const all = rounds.get("5 ×")!;
  const odd = all.flatMap(({ asked }) => asked).filter(({ status }) => ![200, 429, 503].includes(status));
  const broken = all.flatMap(served).filter(({ whole }) => !whole);
  const silent = all.flatMap(refused).filter(({ retryAfter }) => !retryAfter);
  const growth = all.at(-1)!.peakBytes / all[0]!.peakBytes;
  const figures = {
    refused_share: rounded(of("5 ×", refusedShare)),
    refusal_p99_ms: rounded(of("5 ×", firsts(0.99, refused))),
    served_ttft_p99_ms: rounded(of("5 ×", firsts(0.99, served))),
    gap_p99_ratio: rounded(of("5 ×", gap) / of("half", gap)),
    peak_growth: rounded(growth),
  };
  console.log("");
  verdict("answers that were neither served nor refused with 429 or 503", odd.length, "<=", 0);
  verdict("accepted answers that broke", broken.length, "<=", 0);
  verdict("refusals without retry-after", silent.length, "<=", 0);
  verdict(
    "first token of the served, p99 ms: the wait that is allowed, and 300 ms",
    figures.served_ttft_p99_ms,
    "<=",
    QUEUE_WAIT_MS + 300,
  );
  verdict("gap p99 of the served against that at half load", figures.gap_p99_ratio, "<=", 1.5);
  verdict("peak memory of the last round against the first", figures.peak_growth, "<=", 1.2);
  if (json) console.log(JSON.stringify(figures));
}

/** Asks so often a second, whatever becomes of it. */
async function askByTheClock(hub: BenchHub, perS: number, durationMs: number): Promise<Round> {
  const asked: Promise<Asked>[] = [];
  const agent = new Agent({ keepAlive: true, maxSockets: 5000 });
  let peakBytes = 0;
  const watch = setInterval(() => {
    peakBytes = Math.max(peakBytes, residentBytes(hub.pid));
  }, 100);
  const startedAt = performance.now();
  for (let n = 0; performance.now() - startedAt < durationMs; n++) {
    const waitMs = startedAt + (n * 1000) / perS - performance.now();
    if (waitMs > 1) await sleep(waitMs);
    asked.push(ask(hub, agent));
  }
  const all = await Promise.all(asked);
  clearInterval(watch);
  agent.destroy();
  return { asked: all, peakBytes };
}

function ask(hub: BenchHub, agent: Agent): Promise<Asked> {
  const messages = [{ role: "user", content: "Overload." }];
  const body = JSON.stringify({ model: MODEL, messages, max_tokens: DELTAS, stream: true });
  return new Promise((resolve, reject) => {
    const startedAt = performance.now();
    const arrivals: number[] = [];
    const outgoing = httpRequest(
      {
        ...{ agent, host: "127.0.0.1", port: hub.port, path: "/v1/chat/completions", method: "POST" },
        headers: {
          "content-type": "application/json",
          "content-length": Buffer.byteLength(body),
          authorization: `Bearer ${hub.key}`,
        },
      },
      (response) => {
        let tail = "";
        response.setEncoding("latin1");
        response.on("data", (chunk: string) => {
          if (chunk.includes('"content":"token') || response.statusCode !== 200)
            arrivals.push(performance.now());
          tail = (tail + chunk).slice(-40);
        });
        response.on("end", () =>
          resolve({
            status: response.statusCode ?? 0,
            retryAfter: response.headers["retry-after"] !== undefined,
            firstMs: (arrivals[0] ?? performance.now()) - startedAt,
            gapsMs: arrivals.slice(1).map((at, i) => at - arrivals[i]!),
            whole: tail.includes("[DONE]"),
          }),
        );
      },
    );
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}
