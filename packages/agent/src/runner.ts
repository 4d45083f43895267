/** Runs the attempts of every connection: within the slots, each once, each with one end. */
import type { AgentFrame, AttemptFailure, AttemptStart, Elsewhere, Signer } from "@gfe/protocol";
import type { Tracer } from "@gfe/tracing";
import { Attempt, type AttemptEnd } from "./attempt.ts";
import { type AttemptTrace, traceAttempt } from "./attempt-trace.ts";
import type { DeltaWriter } from "./delta-writer.ts";
import { createSeating, type Seat } from "./engines/choices.ts";
import { type Engine, failed } from "./engines/engine.ts";
import { type Verdict, verdictOf } from "./engines/faults.ts";
import type { Host } from "./host.ts";
import { createKept, KeptDeltas } from "./kept.ts";
import { AGENT_LIMITS, ENGINE_LIMITS } from "./limits.ts";
import { usageOf } from "./receipts.ts";

/** Where a model runs. */
export interface Placement {
  /** One for each engine that has it; never empty. */
  seats: readonly Seat[];
  /** Of all seats together. */
  slots: number;
  /** Whether it can go on with what another node said. */
  continues: boolean;
}

/** The one connection that an attempt belongs to: after its end nothing is sent. */
export interface Outlet {
  readonly deltas: DeltaWriter;
  send(frame: AgentFrame): void;
}

export interface AttemptReport {
  attempt: string;
  model: string;
  /** Null for an attempt that was done. */
  failure: AttemptFailure | null;
  inputTokens: number;
  outputTokens: number;
  durationMs: number;
}

export interface RunnerOptions {
  host: Pick<Host, "after" | "nowMs">;
  signer: Signer;
  /** Bounds all models together. */
  slots(): number;
  place(model: string): Placement | undefined;
  onStarted?(attempt: { attempt: string; model: string }): void;
  /** Its end has been sent, to the last of these; it began on the first. */
  onEnded?(report: AttemptReport, outlets: readonly Outlet[]): void;
  /** What an attempt showed of the engine and the model that ran it. */
  onVerdict?(seat: Seat, verdict: Verdict): void;
  tracer?: Tracer | undefined;
}

/** An attempt that runs now, as its owner may see it. */
export interface RunningAttempt {
  attempt: string;
  model: string;
  startedAtMs: number;
  /** Deltas, each about a token. */
  tokens: number;
  /** Since the first token; null before the second. */
  tokensPerS: number | null;
}

export interface Runner {
  readonly running: number;
  /** The longest-running first. */
  attempts(): RunningAttempt[];
  start(frame: AttemptStart, outlet: Outlet): void;
  /** `reason` is the hub's: an error code. */
  cancel(attempt: string, reason?: string): void;
  pause(attempt: string): void;
  resume(attempt: string): void;
  /** Aborts what runs, or what runs for one connection: its ends go to nobody when that is lost. */
  abortAll(cause: { code: AttemptFailure; message: string }, of?: Outlet): void;
  /** Whether every end of a connection's attempts has been sent. */
  idleFor(outlet: Outlet): boolean;
  /** What runs for other connections than this. */
  elsewhere(outlet: Outlet): Elsewhere;
  /** New attempts are refused from now on, or taken again. */
  setDraining(draining: boolean): void;
  /** Resolves when nothing runs and every end has been sent. */
  idle(): Promise<void>;
}

export function createRunner(options: RunnerOptions): Runner {
  const { host, signer } = options;
  const running = new Map<string, Attempt>();
  const runningByModel = new Map<string, number>();
  const seating = createSeating();
  /** Attempts that the hub waited for in vain. */
  const silent = new Set<string>();
  /** Attempts whose end has not been sent, where they began, and to whom it goes; a few more than those that run. */
  const open = new Map<Attempt, { begunOn: Outlet; outlet: Outlet }>();
  const kept = createKept(host);
  const ended = new Set<string>();
  let waiting: (() => void)[] = [];
  let draining = false;

  function refusalOf(frame: AttemptStart, placement: Placement | undefined) {
    if (draining) return failed("draining", "this node takes no more work");
    if (!placement) return failed("engine_error", `${frame.model} is not offered any more`);
    if (running.size >= options.slots() || (runningByModel.get(frame.model) ?? 0) >= placement.slots)
      return failed("busy", "every slot is taken");
    // To begin anew would repeat what the caller has.
    if (frame.prefix && !placement.continues)
      return failed("unsupported", "prefix: this model has no continuation");
    return null;
  }

  function remember(id: string): void {
    ended.add(id);
    if (ended.size > AGENT_LIMITS.endedRemembered) ended.delete(ended.values().next().value!);
  }

  async function run(attempt: Attempt, seat: Seat, outlet: Outlet, trace: AttemptTrace): Promise<void> {
    open.set(attempt, { begunOn: outlet, outlet });
    running.set(attempt.id, attempt);
    runningByModel.set(attempt.model, (runningByModel.get(attempt.model) ?? 0) + 1);
    seating.take(seat);
    options.onStarted?.({ attempt: attempt.id, model: attempt.model });
    const end = await attempt.run();
    // The slot is free before the hub hears of it: its next start must not meet a full house.
    running.delete(attempt.id);
    const left = runningByModel.get(attempt.model)! - 1;
    if (left > 0) runningByModel.set(attempt.model, left);
    else runningByModel.delete(attempt.model);
    seating.leave(seat);
    remember(attempt.id);
    options.onVerdict?.(
      seat,
      silent.delete(attempt.id) ? waitedInVain : verdictOf(end.outcome, end.engineGone),
    );
    kept.ended(attempt, end);
    let taker: Outlet;
    do {
      taker = open.get(attempt)!.outlet;
      await conclude(attempt, end, taker);
    } while (open.get(attempt)!.outlet !== taker); // it was asked for on another connection meanwhile
    open.delete(attempt);
    trace.ended(end);
    const report = {
      attempt: attempt.id,
      model: attempt.model,
      failure: end.outcome.type === "failed" ? end.outcome.code : null,
      inputTokens: end.usage.input_tokens,
      outputTokens: end.usage.output_tokens,
      durationMs: host.nowMs() - attempt.startedAtMs,
    };
    options.onEnded?.(report, [...new Set([outlet, taker])]);
    if (open.size > 0) return;
    const resolved = waiting;
    waiting = [];
    for (const resolve of resolved) resolve();
  }

  async function conclude(attempt: Attempt, end: AttemptEnd, outlet: Outlet): Promise<void> {
    outlet.deltas.flush();
    const receipt = await attempt.sign(end);
    const { outcome } = end;
    if (outcome.type === "done")
      return outlet.send({ type: "attempt.done", attempt: attempt.id, finish: outcome.finish, receipt });
    const message = outcome.message.slice(0, ENGINE_LIMITS.errorTextLength);
    outlet.send({ type: "attempt.failed", attempt: attempt.id, code: outcome.code, message, receipt });
  }

  /** Its end is or was told, but for one that was kept and is asked for again: after a lost connection. */
  async function repeat(frame: AttemptStart, outlet: Outlet): Promise<void> {
    if (frame.keep_ms === undefined) return;
    const known = kept.get(frame.attempt);
    if (!known?.deltas.isWhole) {
      if (running.has(frame.attempt)) return;
      const message = "this node does not have it any more";
      return outlet.send({ type: "attempt.failed", attempt: frame.attempt, code: "cancelled", message });
    }
    const { attempt, deltas, end } = known;
    if (deltas.goesTo(outlet.deltas)) return; // a repeat on the same connection
    const now = open.get(attempt);
    if (now) now.outlet = outlet;
    deltas.moveTo(outlet.deltas, frame.channel);
    kept.returned(attempt);
    if (end && !now) await conclude(attempt, end, outlet);
  }

  return {
    get running() {
      return running.size;
    },
    attempts: () =>
      [...running.values()].map((attempt) => {
        const { deltas, firstAtMs } = attempt.progress;
        const elapsedS = (host.nowMs() - firstAtMs) / 1000;
        return {
          ...{ attempt: attempt.id, model: attempt.model, startedAtMs: attempt.startedAtMs },
          ...{ tokens: deltas, tokensPerS: deltas > 1 && elapsedS > 0 ? (deltas - 1) / elapsedS : null },
        };
      }),
    start(frame, outlet) {
      if (running.has(frame.attempt) || ended.has(frame.attempt)) return void repeat(frame, outlet);
      const placement = options.place(frame.model);
      const seat = placement && seating.pick(placement.seats);
      const refused = refusalOf(frame, placement) ?? (seat ? null : failed("busy", "every slot is taken"));
      const trace = traceAttempt(options.tracer, frame, host.nowMs);
      const deltas =
        frame.keep_ms === undefined ? outlet.deltas : new KeptDeltas(outlet.deltas, frame.channel);
      const attempt = new Attempt({
        host,
        start: frame,
        engine: trace.engine(seat ? engineOf(seat) : noEngine),
        digest: seat?.digest ?? null,
        signer,
        deltas,
      });
      if (!refused && seat) {
        if (deltas instanceof KeptDeltas) kept.add(attempt, deltas, frame.keep_ms!);
        return void run(attempt, seat, outlet, trace);
      }
      remember(frame.attempt);
      const nothing = { inputBytes: 0, outputBytes: 0, outputDeltas: 0, reasoningDeltas: 0 };
      const end = { outcome: refused!, usage: usageOf(null, nothing), engineGone: false, outputBytes: 0 };
      trace.ended(end);
      void conclude(attempt, end, outlet);
    },
    cancel(id, reason) {
      const attempt = running.get(id);
      if (attempt && reason !== undefined && VAIN.includes(reason)) silent.add(id);
      attempt?.abort({ code: "cancelled", message: "the hub cancelled the attempt" });
    },
    pause: (id) => running.get(id)?.pause(),
    resume: (id) => running.get(id)?.resume(),
    abortAll(cause, of) {
      if (!of) kept.clear();
      for (const attempt of running.values())
        if (!of || (open.get(attempt)?.outlet === of && !kept.lost(attempt))) attempt.abort(cause);
    },
    idleFor: (outlet) => [...open.values()].every((one) => one.outlet !== outlet),
    elsewhere(outlet) {
      const counts = new Map<string, number>();
      for (const attempt of running.values())
        if (open.get(attempt)?.begunOn !== outlet)
          counts.set(attempt.model, (counts.get(attempt.model) ?? 0) + 1);
      return [...counts].map(([model, count]) => ({ model, running: count }));
    },
    setDraining(value) {
      draining = value;
    },
    idle: () => (open.size === 0 ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve))),
  };
}

/** Why a hub cancels an attempt of which it heard nothing for too long. */
const VAIN: readonly string[] = ["first_token_timeout", "stalled"];

/** Soft: what the hub did not hear may have been lost on its way, or waited for the owner's own requests. */
const waitedInVain: Verdict = {
  type: "fault",
  fault: { code: "hung", message: "the hub waited in vain for its words" },
  isHard: false,
};

/** The engine of a seat, by the name that it has for the model. */
function engineOf({ engine, model }: Seat): Engine {
  return {
    ...{ kind: engine.kind, label: engine.label, models: (signal) => engine.models(signal) },
    run: (attempt, sink, signal) =>
      engine.run(attempt.model === model ? attempt : { ...attempt, model }, sink, signal),
  };
}

const noEngine: Engine = {
  kind: "openai-compatible",
  label: "none",
  models: async () => [],
  run: async () => failed("engine_error", "there is no engine"),
};
