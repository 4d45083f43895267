/** Keeps the health of every model on every engine: hears how attempts end, probes what was withdrawn, tells of changes. */
import { delay, type Host, limitedSignal } from "../host.ts";
import type { DiscoveredModel, Engine, EngineAttempt, EngineSink } from "./engine.ts";
import { EngineGone } from "./engine.ts";
import { FAULT_WORDS, type FaultCode, type Verdict, verdictOf } from "./faults.ts";
import { HEALTH_LIMITS, type Health, type HealthEvent, healthy, isOffered, nextHealth } from "./health.ts";

/** A model that is kept back, and why. */
export interface Withdrawal {
  engine: Engine;
  model: string;
  code: FaultCode;
  /** For people: what is wrong, what to do, and the engine's own words. */
  reason: string;
  /** When the next probe is due; null while one is under way. */
  retryInMs: number | null;
}

export type HealthChange =
  | { type: "withdrawn"; withdrawal: Withdrawal }
  | { type: "restored"; engine: Engine; model: string };

export interface HealthKeeper {
  isOffered(engine: Engine, model: string): boolean;
  report(engine: Engine, model: string, verdict: Verdict): void;
  /** What was withdrawn may work again: a probe is made at once. All models of the engine unless one is named. */
  hope(engine: Engine, model?: string): void;
  withdrawals(): Withdrawal[];
  /** Lets go of an engine that is watched no more. */
  forget(engine: Engine): void;
  close(): void;
}

export interface HealthKeeperOptions {
  host: Pick<Host, "after" | "nowMs">;
  /** The model as its engine lists it now; undefined while it does not. */
  listed(engine: Engine, model: string): DiscoveredModel | undefined;
  /** False while the machine is its owner's: a probe would load the model. Always, unless given. */
  mayProbe?(): boolean;
  onChange(change: HealthChange): void;
}

interface Kept {
  health: Health;
  callOff: () => void;
  probe: AbortController | null;
}

export function createHealthKeeper({ host, listed, mayProbe, onChange }: HealthKeeperOptions): HealthKeeper {
  const kept = new Map<Engine, Map<string, Kept>>();
  let closed = false;

  function of(engine: Engine, model: string): Kept {
    const models = kept.get(engine) ?? new Map<string, Kept>();
    kept.set(engine, models);
    const known = models.get(model) ?? { health: healthy(host.nowMs()), callOff() {}, probe: null };
    models.set(model, known);
    return known;
  }

  function apply(engine: Engine, model: string, event: HealthEvent): void {
    const one = of(engine, model);
    const before = one.health;
    const after = nextHealth(before, event);
    one.health = after;
    if (after === before || closed) return;
    one.callOff();
    one.callOff = () => {};
    if (after.state === "withdrawn") {
      one.callOff = host.after(Math.max(0, after.untilMs - event.atMs), () => due(engine, model));
    }
    if (after.state === "withdrawn" && isOffered(before))
      onChange({ type: "withdrawn", withdrawal: withdrawalOf(engine, model, after) });
    if (after.state === "probing") void probe(engine, model, one);
    if (isOffered(after) && !isOffered(before)) onChange({ type: "restored", engine, model });
  }

  function due(engine: Engine, model: string): void {
    const one = of(engine, model);
    const { health } = one;
    if (mayProbe && !mayProbe()) {
      one.callOff = host.after(HEALTH_LIMITS.heldMs, () => due(engine, model));
      return;
    }
    // The clock may run a little behind the timer.
    const atMs = health.state === "withdrawn" ? Math.max(host.nowMs(), health.untilMs) : host.nowMs();
    apply(engine, model, { type: "due", atMs });
  }

  async function probe(engine: Engine, model: string, one: Kept): Promise<void> {
    const controller = new AbortController();
    one.probe = controller;
    const facts = listed(engine, model);
    const verdict: Verdict = facts
      ? await probeModel(host, engine, facts, controller.signal)
      : gone(`${engine.label} does not list ${model}`);
    one.probe = null;
    if (closed || of(engine, model) !== one) return;
    const atMs = host.nowMs();
    if (verdict.type === "fault") apply(engine, model, { ...verdict, atMs });
    else apply(engine, model, { type: "worked", atMs });
  }

  function withdrawalOf(engine: Engine, model: string, health: Health): Withdrawal {
    if (health.state !== "withdrawn" && health.state !== "probing") throw new Error("it is offered");
    const { code, message } = health.fault;
    return {
      ...{ engine, model, code },
      reason: `${FAULT_WORDS[code]} (${message})`,
      retryInMs: health.state === "withdrawn" ? Math.max(0, health.untilMs - host.nowMs()) : null,
    };
  }

  function letGo(models: Map<string, Kept> | undefined): void {
    for (const one of models?.values() ?? []) {
      one.callOff();
      one.probe?.abort(new Error("it is watched no more"));
    }
  }

  return {
    isOffered: (engine, model) => {
      const one = kept.get(engine)?.get(model);
      return !one || isOffered(one.health);
    },
    report(engine, model, verdict) {
      const atMs = host.nowMs();
      if (verdict.type === "fault") apply(engine, model, { ...verdict, atMs });
      // An attempt of before a withdrawal that ends well is no probe.
      else if (verdict.type === "worked" && of(engine, model).health.state !== "probing")
        apply(engine, model, { type: "worked", atMs });
    },
    hope(engine, model) {
      for (const name of [...(kept.get(engine)?.keys() ?? [])])
        if (model === undefined || name === model) apply(engine, name, { type: "hope", atMs: host.nowMs() });
    },
    withdrawals: () =>
      [...kept].flatMap(([engine, models]) =>
        [...models].flatMap(([model, { health }]) =>
          isOffered(health) ? [] : withdrawalOf(engine, model, health),
        ),
      ),
    forget(engine) {
      letGo(kept.get(engine));
      kept.delete(engine);
    },
    close() {
      closed = true;
      for (const models of kept.values()) letGo(models);
    },
  };
}

const gone = (message: string): Verdict => ({
  type: "fault",
  fault: { code: "model_unavailable", message },
  isHard: true,
});

const hung: Verdict = {
  type: "fault",
  fault: {
    code: "hung",
    message: `no answer to a request for one token within ${HEALTH_LIMITS.probeMs / 1000} s`,
  },
  isHard: true,
};

/** One token of the model, or the vector of one letter. Nobody pays for it and nobody sees it. */
export async function probeModel(
  host: Pick<Host, "after">,
  engine: Engine,
  { name, capabilities }: DiscoveredModel,
  parent: AbortSignal,
): Promise<Verdict> {
  const { signal, release } = limitedSignal(host, HEALTH_LIMITS.probeMs, parent);
  const over = new AbortController();
  try {
    const running = engine.run(probeOf(name, capabilities), deaf, signal).then(
      (outcome): Verdict => {
        const verdict = verdictOf(outcome, false);
        // A full house is alive, but nothing that could be offered.
        const isBusy = outcome.type === "failed" && outcome.code === "busy";
        if (!isBusy || verdict.type === "fault") return verdict;
        return { type: "fault", fault: { code: "failing", message: outcome.message }, isHard: false };
      },
      (error: unknown): Verdict => ({
        type: "fault",
        fault: {
          code: error instanceof EngineGone ? "unreachable" : "crashed",
          message: error instanceof Error ? error.message : String(error),
        },
        isHard: true,
      }),
    );
    // An engine that hangs may not notice that nobody waits for it.
    const limit = delay(host, HEALTH_LIMITS.probeMs, over.signal).then(
      () => hung,
      () => hung,
    );
    return await Promise.race([running, limit]);
  } finally {
    over.abort();
    release();
  }
}

function probeOf(model: string, capabilities: DiscoveredModel["capabilities"]): EngineAttempt {
  if (capabilities.includes("chat"))
    return {
      kind: "chat",
      model,
      body: { messages: [{ role: "user", content: "Hi" }], max_tokens: 1, temperature: 0 },
    };
  if (capabilities.includes("completion"))
    return { kind: "completion", model, body: { prompt: "Hi", max_tokens: 1, temperature: 0 } };
  return { kind: "embedding", model, body: { input: ["a"] } };
}

const deaf: EngineSink = { text() {}, reasoning() {}, choice() {}, embeddings() {}, ready: () => undefined };
