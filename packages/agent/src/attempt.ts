/**
 * One attempt on one engine, from attempt.start to its one attempt.done or attempt.failed.
 *
 *   running ──engine ends──────────────────────────────► ended (done | failed)
 *      ├── cancel, deadline, lost, drained ──► aborting ──engine ends or the grace is over──► ended (failed)
 *      └── engine says too much ─────────────► aborting ──…
 *
 * Paused is no state of its own: the sink's `ready` then gives a promise, and the engine is not read on.
 */
import {
  type AttemptFailure,
  type AttemptStart,
  type ChoiceDelta,
  type DeltaKind,
  deltaKind,
  type Signer,
  type Usage,
} from "@gfe/protocol";
import type { DeltaWriter } from "./delta-writer.ts";
import { type Engine, EngineGone, type EngineOutcome, type EngineSink, failed } from "./engines/engine.ts";
import { inputBytesOf } from "./engines/requests.ts";
import type { Host } from "./host.ts";
import { AGENT_LIMITS, ENGINE_LIMITS, SEND_LIMITS } from "./limits.ts";
import { type Seen, signReceipt, usageOf } from "./receipts.ts";

/** Where an attempt's words go. */
export type Deltas = Pick<DeltaWriter, "text" | "congested" | "queuedBytes" | "whenClear">;

export interface AttemptOptions {
  host: Pick<Host, "after" | "nowMs">;
  start: AttemptStart;
  engine: Engine;
  digest: string | null;
  signer: Signer;
  deltas: Deltas;
}

export type AttemptEnd = { outcome: EngineOutcome; usage: Usage; engineGone: boolean; outputBytes: number };

type AbortCause = { code: AttemptFailure; message: string };

export class Attempt {
  readonly id: string;
  readonly model: string;
  readonly startedAtMs: number;
  readonly #options: AttemptOptions;
  readonly #controller = new AbortController();
  readonly #seen: Seen;
  #cause: AbortCause | null = null;
  #ended = false;
  #resume: (() => void) | null = null;
  #paused: Promise<void> | null = null;
  #firstDeltaMs = 0;
  /** The first half of a character that two deltas share. */
  #highSurrogate = "";

  constructor(options: AttemptOptions) {
    this.#options = options;
    this.id = options.start.attempt;
    this.model = options.start.model;
    this.startedAtMs = options.host.nowMs();
    this.#seen = {
      inputBytes: inputBytesOf(options.start.body),
      outputBytes: 0,
      outputDeltas: 0,
      reasoningDeltas: 0,
    };
  }

  /** Runs to the end; never rejects. */
  async run(): Promise<AttemptEnd> {
    const { host, start, engine } = this.#options;
    const deadline = host.after(start.deadline_ms, () =>
      this.abort({ code: "timeout", message: "the attempt's time was up" }),
    );
    let engineGone = false;
    const running = engine.run(start, this.#sink(), this.#controller.signal).catch((error: unknown) => {
      engineGone = error instanceof EngineGone;
      return failed("engine_error", error instanceof Error ? error.message : "the engine failed");
    });
    const told = await Promise.race([running, this.#graceOver()]);
    deadline();
    this.#releaseHighSurrogate(deltaKind.text);
    this.#ended = true;
    this.resume();
    const outcome: EngineOutcome = this.#cause
      ? { type: "failed", ...this.#cause, usage: told?.usage ?? null }
      : (told ?? failed("engine_error", "the engine did not end"));
    return {
      outcome,
      usage: usageOf(outcome.usage, this.#seen),
      engineGone,
      outputBytes: this.#seen.outputBytes,
    };
  }

  /** Deltas so far, each about a token, and when the first of them came. */
  get progress(): { deltas: number; firstAtMs: number } {
    return { deltas: this.#seen.outputDeltas, firstAtMs: this.#firstDeltaMs };
  }

  /** The receipt for what was used. */
  sign(end: AttemptEnd) {
    const { signer, digest } = this.#options;
    const { usage, outputBytes } = end;
    return signReceipt(signer, { attempt: this.id, digest, seq: 1, usage, outputBytes });
  }

  /** Stops the engine at once; the first cause counts. */
  abort(cause: AbortCause): void {
    if (this.#ended || this.#cause) return;
    this.#cause = cause;
    this.#controller.abort(new Error(cause.message));
    this.resume();
  }

  pause(): void {
    if (this.#ended || this.#cause || this.#paused) return;
    this.#paused = new Promise((resolve) => {
      this.#resume = resolve;
    });
  }

  resume(): void {
    this.#resume?.();
    this.#resume = null;
    this.#paused = null;
  }

  /** Resolves to null some time after an abort, for engines that don't notice it. */
  #graceOver(): Promise<null> {
    const { signal } = this.#controller;
    return new Promise((resolve) => {
      signal.addEventListener(
        "abort",
        () => void this.#options.host.after(AGENT_LIMITS.abortGraceMs, () => resolve(null)),
        { once: true },
      );
    });
  }

  #sink(): EngineSink {
    const { deltas } = this.#options;
    return {
      text: (text) => this.#say(deltaKind.text, text),
      reasoning: (text) => this.#say(deltaKind.reasoning, text),
      choice: (delta) => this.#sayChoice(delta),
      embeddings: (vectors) => this.#sendVectors(vectors),
      ready: () => {
        if (this.#paused) return this.#paused;
        return deltas.congested ? deltas.whenClear() : undefined;
      },
    };
  }

  get #silent(): boolean {
    return this.#ended || this.#cause !== null;
  }

  #say(kind: DeltaKind, text: string): void {
    if (this.#silent || text === "") return;
    let whole = this.#highSurrogate === "" ? text : this.#highSurrogate + text;
    this.#highSurrogate = "";
    const last = whole.charCodeAt(whole.length - 1);
    if (last >= 0xd800 && last <= 0xdbff) {
      this.#highSurrogate = whole.slice(-1);
      whole = whole.slice(0, -1);
      if (whole === "") return;
    }
    this.#count(this.#options.deltas.text(kind, this.#options.start.channel, whole));
    if (kind === deltaKind.reasoning) this.#seen.reasoningDeltas++;
  }

  #releaseHighSurrogate(kind: DeltaKind): void {
    if (this.#silent || this.#highSurrogate === "") return;
    this.#count(this.#options.deltas.text(kind, this.#options.start.channel, "\ufffd"));
  }

  #sayChoice(delta: ChoiceDelta): void {
    if (this.#silent) return;
    this.#options.deltas.text(deltaKind.choice, this.#options.start.channel, JSON.stringify(delta));
    const calls = (delta.tool_calls ?? []).map(
      (call) => (call.function?.name ?? "") + (call.function?.arguments ?? ""),
    );
    const spoken = (delta.content ?? "") + (delta.reasoning ?? "") + calls.join("");
    this.#count(new TextEncoder().encode(spoken).length);
  }

  #sendVectors(vectors: readonly string[]): void {
    let batch: string[] = [];
    let size = 0;
    const send = () => {
      if (batch.length === 0 || this.#silent) return;
      const json = JSON.stringify({ vectors: batch });
      this.#options.deltas.text(deltaKind.embeddings, this.#options.start.channel, json);
      batch = [];
      size = 0;
    };
    for (const vector of vectors) {
      if (size + vector.length > SEND_LIMITS.embeddingsBytes) send();
      batch.push(vector);
      size += vector.length;
    }
    send();
  }

  #count(bytes: number): void {
    this.#seen.outputBytes += bytes;
    if (this.#seen.outputDeltas++ === 0) this.#firstDeltaMs = this.#options.host.nowMs();
    if (
      this.#seen.outputBytes > ENGINE_LIMITS.answerBytes ||
      this.#options.deltas.queuedBytes > SEND_LIMITS.queuedBytes
    )
      this.abort({ code: "engine_error", message: "the engine said more than the limit" });
  }
}
