/**
 * How fast a model is on this machine, measured briefly and once: one token, so that it is loaded, then a short answer. For the
 * owner's eyes: the hub believes only what it measures itself.
 *
 * Results are kept by engine, model and digest, so that a restart joins at once; they are the owner's to read in
 * `gfe status`. A model whose benchmark fails is left as it is: its health is told by its first attempt.
 */
import { z } from "zod";
import { parseJson } from "../body.ts";
import { type Host, limitedSignal } from "../host.ts";
import type { DiscoveredModel, Engine, EngineAttempt, EngineSink } from "./engine.ts";

export const BENCHMARKS_FILE = "benchmarks.json";

export const BENCHMARK_LIMITS = {
  /** What one model may take, being loaded included; what was said by then counts. */
  modelMs: 15_000,
  /** All models of a start: those that are left are measured at the next. */
  totalMs: 30_000,
  outputTokens: 32,
  /** Results that are kept. */
  kept: 256,
} as const;

export interface Benchmark {
  /** From the request to the first token, the model being loaded. */
  ttftMs: number;
  /** Of output, between the first and the last token; null where it said too little. */
  tokensPerS: number | null;
}

const keptSchema = z.record(
  z.string(),
  z.object({ ttft_ms: z.number().nonnegative(), tokens_s: z.number().positive().nullable() }),
);

export interface BenchmarkStore {
  get(engine: Engine, model: DiscoveredModel): Benchmark | undefined;
  /** Never rejects: a directory that takes nothing costs a benchmark at the next start. */
  put(engine: Engine, model: DiscoveredModel, benchmark: Benchmark): Promise<void>;
}

/** Reads what earlier starts have measured. What is there and can't be read is as nothing. */
export async function openBenchmarks({
  files,
  directories,
}: Pick<Host, "files" | "directories">): Promise<BenchmarkStore> {
  const path = files.join(directories.state, BENCHMARKS_FILE);
  const bytes = await files.read(path).catch(() => null);
  let kept = keptSchema.safeParse(bytes && parseJson(new TextDecoder().decode(bytes))).data ?? {};
  const keyOf = (engine: Engine, { name, digest }: DiscoveredModel) =>
    `${engine.kind} ${engine.label} ${name} ${digest ?? ""}`;
  return {
    get(engine, model) {
      const one = kept[keyOf(engine, model)];
      return one && { ttftMs: one.ttft_ms, tokensPerS: one.tokens_s };
    },
    async put(engine, model, { ttftMs, tokensPerS }) {
      const others = Object.entries(kept).slice(-BENCHMARK_LIMITS.kept + 1);
      kept = {
        ...Object.fromEntries(others),
        [keyOf(engine, model)]: { ttft_ms: ttftMs, tokens_s: tokensPerS },
      };
      try {
        await files.makeDirectory(directories.state, 0o700);
        await files.write(path, JSON.stringify(kept), { mode: 0o600 });
      } catch {} // a full disk: measured again
    },
  };
}

export interface Speed extends Benchmark {
  engine: string;
  model: string;
}

/**
 * Tells the speed of each model, one after the other, of those that were measured before at once. Resolves when all are told, at
 * the latest after `BENCHMARK_LIMITS.totalMs` and what an engine takes to stop; never rejects.
 */
export async function benchmarkAll(
  host: Pick<Host, "after" | "nowMs" | "files" | "directories">,
  engines: readonly { engine: Engine; models: readonly DiscoveredModel[] }[],
  { onSpeed, onMeasuring, signal: parent }: BenchmarkTold,
): Promise<void> {
  const store = await openBenchmarks(host);
  const missing: { engine: Engine; model: DiscoveredModel }[] = [];
  for (const { engine, models } of engines)
    for (const model of models) {
      const known = store.get(engine, model);
      if (known) onSpeed({ ...known, engine: engine.label, model: model.name });
      else if (attemptOf(model, 1)) missing.push({ engine, model });
    }
  if (missing.length === 0) return;
  onMeasuring(missing.length);
  const { signal, release } = limitedSignal(host, BENCHMARK_LIMITS.totalMs, parent);
  try {
    for (const { engine, model } of missing) {
      if (signal.aborted) return;
      const benchmark = await benchmarkModel(host, engine, model, signal);
      if (!benchmark) continue;
      onSpeed({ ...benchmark, engine: engine.label, model: model.name });
      await store.put(engine, model, benchmark);
    }
  } finally {
    release();
  }
}

export interface BenchmarkTold {
  onSpeed(speed: Speed): void;
  /** Some are measured for the first time. */
  onMeasuring(models: number): void;
  signal?: AbortSignal | undefined;
}

/** Null where the model has no words to measure, or did not say any in time. Never rejects. */
export async function benchmarkModel(
  host: Pick<Host, "after" | "nowMs">,
  engine: Engine,
  model: DiscoveredModel,
  parent?: AbortSignal,
): Promise<Benchmark | null> {
  if (!attemptOf(model, 1)) return null;
  const { signal, release } = limitedSignal(host, BENCHMARK_LIMITS.modelMs, parent);
  try {
    const loaded = await timed(host, engine, attemptOf(model, 1)!, signal);
    if (loaded.tokens === 0 || signal.aborted) return null;
    const { tokens, beganMs, firstMs, lastMs } = await timed(
      host,
      engine,
      attemptOf(model, BENCHMARK_LIMITS.outputTokens)!,
      signal,
    );
    if (tokens === 0) return null;
    const elapsedS = (lastMs - firstMs) / 1000;
    return {
      ttftMs: firstMs - beganMs,
      tokensPerS: tokens > 1 && elapsedS > 0 ? (tokens - 1) / elapsedS : null,
    };
  } finally {
    release();
  }
}

/** Counts pieces, each about a token, until the end or the signal. */
async function timed(
  host: Pick<Host, "nowMs">,
  engine: Engine,
  attempt: EngineAttempt,
  signal: AbortSignal,
): Promise<{ tokens: number; beganMs: number; firstMs: number; lastMs: number }> {
  const seen = { tokens: 0, beganMs: host.nowMs(), firstMs: 0, lastMs: 0 };
  const heard = () => {
    seen.lastMs = host.nowMs();
    if (seen.tokens++ === 0) seen.firstMs = seen.lastMs;
  };
  const sink: EngineSink = {
    ...{ text: heard, reasoning: heard, choice: heard },
    ...{ embeddings() {}, ready: () => undefined },
  };
  const running = engine.run(attempt, sink, signal).then(
    () => {},
    () => {},
  );
  // An engine that hangs may not notice that nobody waits for it.
  const stopped = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
  await Promise.race([running, stopped]);
  return { ...seen };
}

function attemptOf({ name, capabilities }: DiscoveredModel, tokens: number): EngineAttempt | null {
  const words = "Count from one to one hundred, in words.";
  const bounds = { max_tokens: tokens, temperature: 0 };
  if (capabilities.includes("chat"))
    return { kind: "chat", model: name, body: { messages: [{ role: "user", content: words }], ...bounds } };
  if (capabilities.includes("completion"))
    return { kind: "completion", model: name, body: { prompt: words, ...bounds } };
  return null;
}
