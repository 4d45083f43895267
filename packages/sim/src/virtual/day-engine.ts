/** An engine on a day of its life: it answers, crashes, hangs, has no memory left, loses a model, and comes back. */
import {
  type DiscoveredModel,
  delay,
  type Engine,
  EngineGone,
  type EngineOutcome,
  type Host,
} from "@gfe/agent";
import type { Random } from "../random.ts";
import { nextPiece, type Records } from "./records.ts";
import { MODEL_DIGEST, type NodeSpec } from "./stage.ts";

export const MOODS = ["fine", "gone", "hangs", "crashes", "has no memory", "lost a model"] as const;
export type Mood = (typeof MOODS)[number];

const TOKENS = { min: 1, max: 30 };
const INPUT_TOKENS = 20;
/** As every adapter waits for its engine's list of models. */
const INQUIRY_MS = 5_000;

export class DayEngine {
  mood: Mood = "fine";
  /** Requests that it works at; a caller that left and did not say so would be seen here. */
  running = 0;
  readonly #host: Pick<Host, "after">;
  readonly #records: Records;
  readonly #spec: NodeSpec;
  readonly #random: Random;
  readonly #label: string;
  readonly models: readonly string[];

  constructor(
    host: Pick<Host, "after">,
    records: Records,
    spec: NodeSpec,
    label: string,
    models: readonly string[],
  ) {
    this.#host = host;
    this.#records = records;
    this.#spec = spec;
    this.#random = spec.random.fork();
    this.#label = label;
    this.models = models;
  }

  /** The same engine for another life of its agent. */
  at(host: Pick<Host, "after">): DayEngine {
    const { mood } = this;
    const again = new DayEngine(host, this.#records, this.#spec, this.#label, this.models);
    again.mood = mood;
    return again;
  }

  asEngine(): Engine {
    return {
      kind: "scripted",
      label: this.#label,
      models: (signal) => this.#listed(signal),
      run: async (attempt, sink, signal) => {
        this.running++;
        try {
          return await this.#run(attempt, sink, signal);
        } finally {
          this.running--;
        }
      },
    };
  }

  async #listed(signal?: AbortSignal): Promise<DiscoveredModel[]> {
    if (this.mood === "gone") throw new EngineGone(this.#label);
    if (this.mood === "hangs") {
      await delay(this.#host, INQUIRY_MS, signal);
      throw new Error(`no answer within ${INQUIRY_MS} ms`);
    }
    return this.models.slice(this.mood === "lost a model" ? 1 : 0).map((name) => ({
      ...{ name, slots: this.#spec.slots, digest: MODEL_DIGEST, contextLength: 8192 },
      capabilities: ["chat", "completion", "continuation"],
    }));
  }

  async #run(...[attempt, sink, signal]: Parameters<Engine["run"]>): Promise<EngineOutcome> {
    const { mood } = this;
    const random = this.#random;
    if (mood === "gone") throw new EngineGone(this.#label);
    await delay(this.#host, random.int(1, 300), signal);
    if (mood === "hangs") return await silent(signal);
    if (mood === "has no memory") return failure("CUDA error: out of memory", "out_of_memory");
    if (mood === "lost a model" && attempt.model === this.models[0])
      return failure(`model ${attempt.model} not found`, "model_unavailable");
    const isAsked = /request \d+/.test(JSON.stringify(attempt.body));
    const asked = Number(attempt.body.max_tokens ?? 16) - (attempt.prefix?.tokens ?? 0);
    const count = Math.max(1, Math.min(asked, random.int(TOKENS.min, TOKENS.max)));
    const { name, provider, price } = this.#spec;
    const speech = isAsked
      ? this.#records.speech({ name, provider, price, body: attempt.body, isHonest: true })
      : null;
    const breaksAt = mood === "crashes" ? random.int(0, count) : null;
    for (let said = 0; said < count; said++) {
      if (said === breaksAt) break;
      await delay(this.#host, random.int(1, 200), signal);
      sink.text(speech ? nextPiece(speech) : "one ");
      await sink.ready();
    }
    if (breaksAt !== null) return failure("the model runner process has terminated", "crashed");
    return { type: "done", finish: ["stop"], usage: { inputTokens: INPUT_TOKENS, outputTokens: count } };
  }
}

const failure = (
  message: string,
  fault: "out_of_memory" | "crashed" | "model_unavailable",
): EngineOutcome => ({ type: "failed", code: "engine_error", message, usage: null, fault });

const silent = (signal?: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    if (signal?.aborted) reject(signal.reason);
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
