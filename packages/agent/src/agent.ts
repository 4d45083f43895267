/**
 * A node at work: finds its engines, joins its hub, serves, and leaves in good order.
 *
 *   starting ──joined──► serving ◄──► disconnected (the link tries again by itself)
 *                           ├── drain() ──► draining ──idle, or its bound──► ended
 *                           ├── stop() ───► ended (what runs is aborted)
 *                           └── a fault of the link ──► ended
 */
import {
  type Announcement,
  type DataPolicy,
  DEFAULT_PRICE,
  type Gpu,
  type ModelOffer,
  OFFER_LIMITS,
  type Signer,
} from "@gfe/protocol";
import type { Tracer } from "@gfe/tracing";
import { type Catalogue, createCatalogue, type EngineState, type PriceList } from "./catalogue.ts";
import { benchmarkAll, type Speed } from "./engines/benchmark.ts";
import { type DetectOptions, detectEngines } from "./engines/detect.ts";
import type { Compute, Engine } from "./engines/engine.ts";
import { createHealthKeeper, type HealthChange, type Withdrawal } from "./engines/health-keeper.ts";
import { limited, type SlotLimits } from "./engines/slot-limits.ts";
import { AgentError } from "./errors.ts";
import { homeUnwritable } from "./home.ts";
import type { Host } from "./host.ts";
import { parseHubAddress } from "./hub-address.ts";
import { createHubRecords } from "./hub-records.ts";
import { loadIdentity } from "./identity.ts";
import { AGENT_LIMITS } from "./limits.ts";
import { createLink, type Link, type LinkCounters } from "./link.ts";
import { probeGpus } from "./probe.ts";
import { type AttemptReport, createRunner, type Runner, type RunningAttempt } from "./runner.ts";

/** An engine as it is told of. */
export interface EngineView {
  kind: string;
  label: string;
  models: number;
  error: string | null;
  /** What is assumed of it, for it does not tell. */
  notes: string[];
  /** What our own engine computes with; null of others, and before its model is loaded. */
  compute: Compute | null;
}

export type AgentEvent =
  | { type: "engines"; engines: EngineView[] }
  /** A model is offered no more until a probe of it works. */
  | { type: "withdrawn"; model: string; engine: string; code: string; reason: string; retryInMs: number }
  | { type: "restored"; model: string; engine: string }
  /** So many models are being measured before the node joins. */
  | { type: "measuring"; models: number }
  /** How fast a model is here, now measured or at an earlier start. */
  | ({ type: "speed" } & Speed)
  | { type: "offers"; models: readonly ModelOffer[] }
  | { type: "joined"; nodeId: string; hubKey: string }
  | { type: "disconnected"; reason: string }
  /** The connection to a hub that left has gone; the one that replaces it has joined, or is on its way. */
  | { type: "moved"; reason: string }
  | { type: "waiting"; delayMs: number; reason: string }
  | { type: "attempt.started"; attempt: string; model: string }
  | ({ type: "attempt.ended" } & AttemptReport)
  | { type: "refused"; code: string; message: string }
  | { type: "draining"; running: number }
  | { type: "ended"; reason: ExitReason };

export type ExitReason = { type: "stopped" } | { type: "drained" } | { type: "fault"; error: AgentError };

export interface AgentOptions {
  host: Host;
  hubUrl: string;
  token: string;
  /** The engines to serve; found by themselves where not given. */
  engines?: readonly Engine[];
  /** Where to look for engines; used with or without `engines`, and not at all when only `engines` is given. */
  detect?: DetectOptions;
  /** Asked once for engines where none is given or found at the start. */
  fallback?: () => Promise<readonly Engine[]>;
  prices?: PriceList;
  /** Which models to offer; all unless given. */
  offers?: (model: string) => boolean;
  /** Attempts at once, over all models; the sum of their slots unless given. */
  slots?: number;
  /** Attempts at once with one model of an engine, by its kind or address. */
  slotLimits?: SlotLimits;
  /** The node's name; the host's unless given. */
  name?: string;
  gpus?: readonly Gpu[];
  /** Where the node stands: `eu-west`. */
  region?: string;
  /** Whether prompts and answers are kept; nothing is said of it unless given. */
  dataPolicy?: DataPolicy;
  /** Other names by which consumers may ask for models: alias to model. */
  aliases?: ReadonlyMap<string, string>;
  /** A node key of one's own instead of the one in the configuration directory. */
  signer?: Signer;
  allowInsecure?: boolean;
  refreshMs?: number;
  /** Measures models that were not measured before, briefly and before joining. */
  benchmark?: boolean;
  /** What attempts are traced with; they are not, unless given. */
  tracer?: Tracer;
  onEvent?: (event: AgentEvent) => void;
  /** Ends the agent, also while it waits for its first join. */
  signal?: AbortSignal;
}

export interface Agent {
  readonly nodeId: string;
  readonly running: number;
  readonly attempts: readonly RunningAttempt[];
  /** At once, over all models. */
  readonly slots: number;
  readonly offers: readonly ModelOffer[];
  readonly engines: readonly EngineView[];
  /** Models that are kept back, and why. */
  readonly withdrawals: readonly Withdrawal[];
  readonly counters: Readonly<LinkCounters>;
  /** Looks at the engines now instead of at the next turn. */
  refresh(): Promise<void>;
  /**
   * Takes no more work until told otherwise, while the connection stays: what still runs after AGENT_LIMITS.pauseMs goes on
   * at other nodes, and the engines free their memory. `reason`: a code that the hub shows to the owner.
   */
  setServing(serving: boolean, reason?: string): void;
  /** Attempts at once, over all models, below what its options say; null for what they say. */
  limitSlots(slots: number | null): void;
  /** Attempts at once with one model of an engine, instead of what its options say of that engine. */
  limitEngines(limits: SlotLimits): void;
  /** Takes no more work, waits for what runs up to a bound, then ends. */
  drain(timeoutMs?: number): Promise<void>;
  /** Aborts what runs and ends. */
  stop(): Promise<void>;
  /** Resolves at the end, whatever its reason; never rejects. */
  readonly done: Promise<ExitReason>;
}

/**
 * Resolves when the node has joined its hub for the first time; a hub that is away is waited for. Rejects with
 * AgentError on what waiting can't mend: a token that is unknown, a hub whose key has changed.
 */
export async function startAgent(options: AgentOptions): Promise<Agent> {
  const { host, prices = { default: DEFAULT_PRICE }, onEvent = () => {} } = options;
  const address = parseHubAddress(options.hubUrl, options.allowInsecure);
  const records = createHubRecords(host);
  const looks = options.engines === undefined || options.detect !== undefined;
  const [signer, record, gpus, detected] = await Promise.all([
    options.signer ?? loadIdentity(host),
    records.get(address.origin),
    options.gpus ?? probeGpus(host),
    looks ? detectEngines(host, options.detect) : [],
  ]);
  const found = [...(options.engines ?? []), ...detected];
  const own = [...(options.engines ?? []), ...(found.length > 0 ? [] : ((await options.fallback?.()) ?? []))];
  const given = [...own, ...detected];
  const health = createHealthKeeper({
    host,
    listed: (engine, model) =>
      catalogue.engines.find((one) => one.engine === engine)?.models.find(({ name }) => name === model),
    mayProbe: () => serving,
    onChange(change) {
      onEvent(told(change));
      if (catalogue.compose() && !ending) announce();
    },
  });
  const catalogue: Catalogue = createCatalogue({
    engines: given,
    prices,
    log: host.log,
    health,
    slotLimits: () => slotLimits,
    ...(options.offers ? { offers: options.offers } : {}),
    ...(options.aliases ? { aliases: options.aliases } : {}),
  });
  let slotLimit: number | null = null;
  let slotLimits: SlotLimits = options.slotLimits ?? new Map();
  const slots = () =>
    Math.max(
      1,
      Math.min(
        options.slots ?? sumOfSlots(catalogue.offers),
        slotLimit ?? Number.POSITIVE_INFINITY,
        OFFER_LIMITS.slotsPerModel,
      ),
    );
  const name = (options.name ?? host.hostName).replace(/\p{Cc}/gu, "").slice(0, 80) || "node";
  const announcement = (): Announcement => ({
    name,
    gpus: [...gpus],
    slots: slots(),
    models: [...catalogue.offers],
    ...(options.region === undefined ? {} : { region: options.region }),
    ...(options.dataPolicy === undefined ? {} : { data_policy: options.dataPolicy }),
  });

  let nodeId = "";
  let ending: ExitReason | null = null;
  let draining = false;
  let serving = true;
  let pausedFor: string | undefined;
  let callOffRefresh = () => {};
  let refreshing: Promise<void> | null = null;
  /** How often the engines were looked at. */
  let looked = 0;
  const lookup = new AbortController();
  const done = Promise.withResolvers<ExitReason>();
  const first = Promise.withResolvers<void>();
  first.promise.catch(() => {}); // it may fail before anyone waits for it

  const describe = ({ engine, models, error }: EngineState): EngineView => {
    const notes = models
      .map((model) => limited(slotLimits, engine, model))
      .flatMap(({ slotsAssumed: why, slots: count }) => (why ? `${count} at once: ${why}` : []));
    return {
      ...{ kind: engine.kind, label: engine.label, models: models.length, error },
      notes: [...new Set(notes)],
      compute: models.find(({ compute }) => compute)?.compute ?? null,
    };
  };

  const announce = (): void => {
    onEvent({ type: "offers", models: catalogue.offers });
    link.send({ type: "announce", announcement: announcement() });
  };

  const runner: Runner = createRunner({
    host,
    signer,
    slots,
    place: catalogue.place,
    onStarted: (attempt) => onEvent({ type: "attempt.started", ...attempt }),
    onEnded(report, outlets) {
      for (const outlet of outlets) link.attemptEnded(outlet);
      onEvent({ type: "attempt.ended", ...report });
    },
    onVerdict({ engine, model }, verdict) {
      const isGone = verdict.type === "fault" && verdict.fault.code === "unreachable";
      if (isGone && catalogue.withdraw(engine)) announce();
      health.report(engine, model, verdict);
    },
    tracer: options.tracer,
  });

  const link: Link = createLink({
    host,
    address,
    token: options.token,
    signer,
    pinnedKey: record.key,
    announcement,
    running: () => runner.running,
    elsewhere: runner.elsewhere,
    idleFor: runner.idleFor,
    events: {
      pin: (key) =>
        records.put(address.origin, { key }).catch((cause: unknown) => {
          throw cause instanceof AgentError ? cause : homeUnwritable(host.directories.config, cause);
        }),
      joined(grant) {
        nodeId = grant.node_id;
        if (draining || !serving) tellDraining();
        onEvent({ type: "joined", nodeId, hubKey: grant.hub_key });
        first.resolve();
      },
      frame(frame, outlet) {
        switch (frame.type) {
          case "attempt.start":
            return runner.start(frame, outlet);
          case "attempt.cancel":
            return runner.cancel(frame.attempt, frame.reason);
          case "attempt.pause":
            return runner.pause(frame.attempt);
          case "attempt.resume":
            return runner.resume(frame.attempt);
          case "refused":
            host.log.warn(
              { code: frame.code, problem: frame.message },
              "the hub refused a frame of this agent",
            );
            return onEvent({ type: "refused", code: frame.code, message: frame.message });
        }
      },
      lost(reason, outlet, departed) {
        // The hub has failed over already: whoever asked is served elsewhere, or has an error. What it may ask for again is kept.
        runner.abortAll({ code: "cancelled", message: "the connection to the hub was lost" }, outlet);
        onEvent(departed ? { type: "moved", reason } : { type: "disconnected", reason });
      },
      waiting: (delayMs, reason) => onEvent({ type: "waiting", delayMs, reason }),
      ended(error) {
        void finish(error.code === "stopped" && ending ? ending : { type: "fault", error });
      },
    },
  });

  async function finish(reason: ExitReason): Promise<void> {
    ending ??= reason;
    callOffRefresh();
    lookup.abort();
    health.close();
    // A token that the hub refuses would be refused for ever: the next start signs in anew.
    if (reason.type === "fault" && ["revoked", "unauthenticated"].includes(reason.error.code))
      await records.forgetToken(address.origin, options.token).catch(() => {});
    options.signal?.removeEventListener("abort", onAbort);
    runner.abortAll({ code: "cancelled", message: "the agent ends" });
    await runner.idle();
    await Promise.allSettled(catalogue.engines.map(({ engine }) => engine.close?.()));
    first.reject(reason.type === "fault" ? reason.error : new AgentError("stopped", "the agent was stopped"));
    onEvent({ type: "ended", reason });
    done.resolve(reason);
  }

  /** Tells the hub first, so that it sends nothing more, and every end is sent before the socket closes. */
  async function leave(reason: ExitReason, timeoutMs: number): Promise<void> {
    if (ending) return void (await done.promise);
    const wasDraining = draining;
    draining = true;
    if (!wasDraining) {
      runner.setDraining(true);
      link.send({ type: "drain", draining: true });
      onEvent({ type: "draining", running: runner.running });
    }
    if (reason.type === "drained") {
      if (wasDraining) return void (await done.promise);
      await atMost(host, timeoutMs, runner.idle());
    }
    runner.abortAll({ code: "draining", message: "the node is shutting down" });
    await atMost(host, AGENT_LIMITS.stopMs, runner.idle());
    ending ??= reason;
    link.stop("the agent ends");
    await done.promise;
  }

  function tellDraining(): void {
    const reason = draining || pausedFor === undefined ? {} : { reason: pausedFor };
    link.send({ type: "drain", draining: draining || !serving, ...reason });
  }

  /** The machine is its owner's now. Called off by serving again. */
  async function rest(): Promise<void> {
    await atMost(host, AGENT_LIMITS.pauseMs, runner.idle());
    if (serving || draining) return;
    runner.abortAll({ code: "draining", message: "the node was paused" });
    await atMost(host, AGENT_LIMITS.stopMs, runner.idle());
    if (serving || draining) return;
    const unloading = catalogue.engines.map(async ({ engine }) => {
      await engine.unload?.().catch((error: unknown) => {
        host.log.warn({ engine: engine.label, error: String(error) }, "the engine kept its memory");
      });
    });
    await Promise.all(unloading);
  }

  const onAbort = () => void leave({ type: "stopped" }, 0);

  /** Engines that came are taken in and those that have long gone are let go of, each minute or so; at once where there is none. */
  async function lookForEngines(): Promise<void> {
    const none = catalogue.engines.every(({ models }) => models.length === 0);
    if (!none && ++looked % AGENT_LIMITS.detectEvery !== 0) return;
    const found = await detectEngines(host, { ...options.detect, onlySure: !none });
    if (ending) return;
    for (const { engine, failures } of [...catalogue.engines]) {
      if (own.includes(engine)) continue;
      const successor = found.find(({ label }) => label === engine.label);
      // Another program took its place at the same address.
      const isReplaced = successor !== undefined && successor.kind !== engine.kind;
      if (!isReplaced && failures < AGENT_LIMITS.forgetFailures) continue;
      catalogue.remove(engine);
      health.forget(engine);
    }
    const known = new Set(catalogue.engines.map(({ engine }) => engine.label));
    catalogue.add(found.filter(({ label }) => !known.has(label)));
  }

  async function look(): Promise<void> {
    if (looks) await lookForEngines();
    const changed = await catalogue.refresh(lookup.signal);
    if (ending) return;
    if (changed) {
      onEvent({ type: "engines", engines: catalogue.engines.map(describe) });
      announce();
    }
  }

  function refresh(): Promise<void> {
    refreshing ??= look().finally(() => {
      refreshing = null;
    });
    return refreshing;
  }

  function refreshLater(): void {
    if (ending) return;
    callOffRefresh = host.after(options.refreshMs ?? AGENT_LIMITS.refreshMs, () => {
      void refresh().then(refreshLater, refreshLater);
    });
  }

  const watched = new Set<Engine>();
  /** An engine that goes away or comes back by itself is not waited for until the next look. */
  function watchEngines(): void {
    for (const { engine } of catalogue.engines) {
      if (watched.has(engine)) continue;
      watched.add(engine);
      engine.watch?.(() => void refresh());
    }
  }

  /** Nothing that was started for it may outlive a start that its caller called off. */
  async function unlessCalledOff(): Promise<void> {
    if (options.signal?.aborted) await finish({ type: "stopped" });
    options.signal?.throwIfAborted();
  }

  await catalogue.refresh(options.signal);
  watchEngines();
  onEvent({ type: "engines", engines: catalogue.engines.map(describe) });
  await unlessCalledOff();
  if (options.benchmark) {
    await benchmarkAll(host, catalogue.engines, {
      onSpeed: (speed) => onEvent({ type: "speed", ...speed }),
      onMeasuring: (models) => onEvent({ type: "measuring", models }),
      signal: options.signal,
    });
    await unlessCalledOff();
  }
  options.signal?.addEventListener("abort", onAbort, { once: true });
  refreshLater();
  link.start();
  await first.promise;

  return {
    get nodeId() {
      return nodeId;
    },
    get running() {
      return runner.running;
    },
    get attempts() {
      return runner.attempts();
    },
    get slots() {
      return slots();
    },
    get offers() {
      return catalogue.offers;
    },
    get engines() {
      return catalogue.engines.map(describe);
    },
    get withdrawals() {
      return health.withdrawals();
    },
    counters: link.counters,
    refresh,
    setServing(value, reason) {
      if (draining || (value === serving && reason === pausedFor)) return;
      const changes = value !== serving;
      serving = value;
      pausedFor = value ? undefined : reason;
      runner.setDraining(!serving);
      tellDraining();
      if (!serving && changes) void rest();
    },
    limitSlots(limit) {
      if (limit === slotLimit) return;
      slotLimit = limit;
      announce();
    },
    limitEngines(limits) {
      slotLimits = new Map([...(options.slotLimits ?? []), ...limits]);
      if (catalogue.compose()) announce();
    },
    drain: (timeoutMs = AGENT_LIMITS.drainMs) => leave({ type: "drained" }, timeoutMs),
    stop: () => leave({ type: "stopped" }, 0),
    done: done.promise,
  };
}

function told(change: HealthChange): AgentEvent {
  if (change.type === "restored")
    return { type: "restored", model: change.model, engine: change.engine.label };
  const { model, engine, code, reason, retryInMs } = change.withdrawal;
  return { type: "withdrawn", model, engine: engine.label, code, reason, retryInMs: retryInMs ?? 0 };
}

const sumOfSlots = (offers: readonly ModelOffer[]): number =>
  offers.reduce((sum, { slots }) => sum + slots, 0);

/** Resolves with `work` or after `ms`, whichever is first. */
function atMost(host: Pick<Host, "after">, ms: number, work: Promise<void>): Promise<void> {
  return new Promise((resolve) => {
    const callOff = host.after(ms, resolve);
    void work.then(() => {
      callOff();
      resolve();
    });
  });
}
