/**
 * A node is killed at a random token of a stream, again and again, on a real model: how often the text at temperature 0
 * is the same as undisturbed, and how long the stream stands still. Beside it, in the same run: how long a client without
 * this would wait, which asks again and reads up to the same token. A text may differ where two tokens are about equally
 * likely: a beginning that is computed in one batch rounds otherwise than token by token.
 */
import { existsSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { createInterface } from "node:readline";
import { type BenchAgent, type BenchHub, startBenchHub } from "./lib/hub.ts";
import { median, printTable, quantile, rounded } from "./lib/statistics.ts";

const TRIALS = Number(process.env.BENCH_TRIALS ?? 200);
const NODES = 3;
const MAX_TOKENS = 200;
/** More answers than this may not end before their node is dead. */
const TOO_LATE_MAX = TRIALS * 3;
const OPENINGS = [
  "Once upon a time",
  "The cat",
  "Tim had a red ball",
  "One day, a girl",
  "It was raining",
  "A dog",
];

interface Reading {
  text: string;
  finish: string | null;
  /** The code of the error that it ended in. */
  error: string | null;
  /** Nodes that said a part of it. */
  nodes: string[];
  /** When each delta came, from the beginning of the request. */
  atMs: number[];
}

export async function run({ json }: { json: boolean }): Promise<void> {
  const model = process.env.GFE_MODEL;
  if (!model || !existsSync(model)) throw new Error("set GFE_MODEL to a GGUF file, a small one");
  const hub = await startBenchHub();
  try {
    const figures = await measure(hub, ["--model-path", model, "--slots", "1"]);
    if (json) console.log(JSON.stringify(figures));
  } finally {
    await hub.stop();
  }
}

async function measure(hub: BenchHub, args: string[]): Promise<Record<string, number>> {
  const living = new Map<string, BenchAgent>();
  const fill = async () => {
    while (living.size < NODES) {
      const agent = await hub.joinAgent(args);
      living.set(agent.nodeId, agent);
    }
  };
  await fill();
  const { data } = (await (await fetch(`${hub.url}/v1/models`)).json()) as { data: { id: string }[] };
  const model = data[0]!.id;
  const undisturbed = new Map<string, Reading>();
  for (const opening of OPENINGS) {
    await read(hub, model, opening);
    undisturbed.set(opening, await read(hub, model, opening));
  }
  const outcomes = { same: 0, "clean error": 0, wrong: 0 };
  const stillMs: number[] = [];
  const againMs: number[] = [];
  let tooLate = 0;
  for (let trial = 0; trial < TRIALS && tooLate <= TOO_LATE_MAX; ) {
    await fill();
    const opening = OPENINGS[trial % OPENINGS.length]!;
    const wanted = undisturbed.get(opening)!;
    const at = 1 + Math.floor(Math.random() * (wanted.atMs.length - 1));
    let killedAfter = 0;
    const reading = await read(hub, model, opening, (deltas, nodeId) => {
      if (deltas !== at) return;
      living.get(nodeId)!.kill();
      living.delete(nodeId);
      killedAfter = deltas;
    });
    if (reading.error === null && reading.nodes.length < 2) {
      tooLate++; // all of it was said before the node was dead
      continue;
    }
    trial++;
    const same = reading.text === wanted.text && reading.finish === wanted.finish;
    const clean = reading.error !== null && reading.finish === null && wanted.text.startsWith(reading.text);
    outcomes[reading.error === null ? (same ? "same" : "wrong") : clean ? "clean error" : "wrong"]++;
    if (reading.error !== null) continue;
    stillMs.push(longestGap(reading.atMs.slice(killedAfter - 1)));
    againMs.push(wanted.atMs[killedAfter - 1]!);
    if (trial % 20 === 0) console.error(`${trial} of ${TRIALS}`);
  }
  return report(outcomes, stillMs, againMs, tooLate);
}

function report(
  outcomes: Record<"same" | "clean error" | "wrong", number>,
  stillMs: number[],
  againMs: number[],
  tooLate: number,
): Record<string, number> {
  const all = outcomes.same + outcomes["clean error"] + outcomes.wrong;
  console.log(`A node killed at a random token of a stream, ${all} times (${tooLate} more were too late)\n`);
  printTable(["the answer", "times"], Object.entries(outcomes));
  const row = (name: string, values: number[]) => [
    name,
    median(values),
    quantile(values, 0.95),
    Math.max(...values),
  ];
  printTable(
    ["milliseconds", "median", "p95", "max"],
    [row("the stream stands still", stillMs), row("asking again, to the same token", againMs)],
  );
  return {
    trials: all,
    same: outcomes.same,
    clean_errors: outcomes["clean error"],
    wrong: outcomes.wrong,
    still_ms_p50: rounded(median(stillMs)),
    still_ms_p95: rounded(quantile(stillMs, 0.95)),
    still_ms_max: rounded(Math.max(...stillMs)),
    again_ms_p50: rounded(median(againMs)),
  };
}

const longestGap = (atMs: readonly number[]): number =>
  atMs.slice(1).reduce((longest, ms, index) => Math.max(longest, ms - atMs[index]!), 0);

/** Reads one stream; `onDelta` hears of each with how many there were, and from which node the first came. */
function read(
  hub: BenchHub,
  model: string,
  opening: string,
  onDelta?: (deltas: number, nodeId: string) => void,
): Promise<Reading> {
  const body = JSON.stringify({
    ...{ model, temperature: 0, max_tokens: MAX_TOKENS, stream: true },
    messages: [{ role: "user", content: opening }],
    stream_options: { include_usage: true },
  });
  const reading: Reading = { text: "", finish: null, error: null, nodes: [], atMs: [] };
  const startedAt = performance.now();
  return new Promise((resolve, reject) => {
    const outgoing = httpRequest(
      `${hub.url}/v1/chat/completions`,
      { method: "POST", headers: { "content-type": "application/json", authorization: `Bearer ${hub.key}` } },
      (response) => {
        const nodeId = String(response.headers["x-gfe-provider"]);
        createInterface({ input: response })
          .on("line", (line) => {
            if (!line.startsWith("data: {")) return;
            const { choices, error, x_gfe: paid } = JSON.parse(line.slice(6));
            if (error) reading.error = error.code;
            if (paid) reading.nodes = paid.nodes;
            reading.finish = choices?.[0]?.finish_reason ?? reading.finish;
            const said = choices?.[0]?.delta?.content;
            if (!said) return;
            reading.text += said;
            reading.atMs.push(performance.now() - startedAt);
            onDelta?.(reading.atMs.length, nodeId);
          })
          .once("close", () => resolve(reading));
      },
    );
    outgoing.once("error", reject);
    outgoing.end(body);
  });
}
