/**
 * A job, from match to settlement.
 *
 *   (queued) ──slot──► held ──► attempt … attempt ──► settling ──► completed | failed | cancelled
 *
 * The hold and the row `running` are one write, the settlement and the ended row another. For a caller whose last hold
 * was granted the first attempt does not wait for the hold: the answer does (see gate.ts). What attempts there are, and
 * why, is in attempts.ts; each is billed for what of it reached the caller. A job ends exactly once: the ledger resolves
 * its hold once, and the ended row goes with it.
 */
import { GfeError, newJobId } from "@gfe/protocol";
import type { Billing } from "../billing/billing.ts";
import type { Wish } from "../market/match.ts";
import type { Matcher } from "../market/matcher.ts";
import type { Offer } from "../market/registry.ts";
import type { Returns } from "../market/returns.ts";
import type { AttemptReport } from "../trust/attempt-facts.ts";
import type { AttemptTimeouts } from "./attempt.ts";
import { createAttempts, type WaitLimits } from "./attempts.ts";
import type { Dispatcher } from "./dispatcher.ts";
import { Gate } from "./gate.ts";
import { abandonedRider, endedRider, runningRider } from "./records.ts";
import { disown, type Ending, outcomeOf, paymentsOf, type Running } from "./running.ts";
import type { Lease, SlotQueue } from "./slot-queue.ts";
import { quoteFor, wishOf } from "./terms.ts";
import { type JobTrace, type JobTracer, untraced } from "./trace.ts";
import type { FlowControl, JobOutcome, JobRequest, JobSink, Jobs } from "./types.ts";

/** A hold outlives its job's total time by this much, so that a settlement can be tried again. */
export const HOLD_MARGIN_MS = 10 * 60_000;
/** How long a caller waits for its settlement to be durable; it goes on being tried after that. */
export const SETTLE_WAIT_MS = 3_000;

const NOTHING = { input_tokens: 0, output_tokens: 0 };

export interface JobLimits extends AttemptTimeouts, WaitLimits {
  totalMs: number;
}

export interface JobEvents {
  changed(change: {
    jobId: string;
    consumerId: string;
    /** One, or more where another went on with an answer. */
    providerIds: string[];
    state: JobOutcome["state"] | "running";
  }): void;
  /** Once for each job that was held, when it has ended. */
  ended(outcome: JobOutcome, kind: JobRequest["kind"]): void;
  /** Once for each attempt of a held job, when it has ended and its receipt was checked. */
  attempted(report: AttemptReport): void;
}

export interface JobsOptions {
  queue: SlotQueue;
  billing: Billing;
  dispatcher: Dispatcher;
  limits: JobLimits;
  feeBasisPoints: number;
  hubId: string;
  nowMs: () => number;
  events: JobEvents;
  /** Whether other hubs may be giving back what this one holds, so that nothing new may begin. */
  lost?: (() => boolean) | undefined;
  /** Whether a model or alias of that name is offered now. */
  isOffered?: (name: string) => boolean;
  /** An attempt begins; what it returns is called with how it went, or null where that says nothing of the node. */
  began?: Matcher["began"];
  /** Nodes that come back; where it is not given, deferred jobs do not wait for theirs. */
  returns?: Returns | undefined;
  tracer?: JobTracer | undefined;
}

export function createJobs(options: JobsOptions): Jobs {
  const { queue, billing, dispatcher, limits, nowMs, events, tracer = untraced } = options;
  let active = 0;
  let draining = false;
  const attempts = createAttempts({
    ...{ queue, dispatcher, limits, nowMs },
    feeBasisPoints: options.feeBasisPoints,
    draining: () => draining,
    attempted: events.attempted,
    began: options.began,
    returns: options.returns,
  });
  /** One for each job that runs: the caller's hanging up, a refused hold and the end of a drain stop it alike. */
  const stops = new Set<AbortController>();
  let onIdle: (() => void) | null = null;

  async function run(
    request: JobRequest,
    sink: JobSink,
    callerSignal: AbortSignal,
    flow: FlowControl | undefined,
    trace: JobTrace,
  ): Promise<JobOutcome> {
    if (draining) throw new GfeError("shutting_down", undefined, { retryAfterS: 5 });
    if (options.lost?.())
      throw new GfeError("overloaded", "This hub was out of touch; try again shortly", { retryAfterS: 1 });
    active++;
    const stop = new AbortController();
    stops.add(stop);
    const onLeave = () => stop.abort();
    if (callerSignal.aborted) onLeave();
    callerSignal.addEventListener("abort", onLeave, { once: true });
    try {
      const asked = wishOf(request, options.isOffered);
      const wish = { ...asked, allows: attempts.allowing(asked.model) };
      const waitedSinceMs = nowMs();
      const { priority } = request;
      const waitMs = priority === "batch" ? limits.batchWaitMs : limits.queueWaitMs;
      const queued = sink.queued?.bind(sink);
      const lease = await trace.step("queue", () =>
        queue.acquire(wish, { priority, waitMs, queued }, stop.signal),
      );
      try {
        const job = beginning(request, wish, lease.offer, waitedSinceMs, trace);
        trace.began(job);
        const outcome = await runHeld(job, lease, sink, stop, flow);
        lease.served(outcome.usage);
        return outcome;
      } finally {
        lease.release();
        lease.served(NOTHING);
      }
    } finally {
      callerSignal.removeEventListener("abort", onLeave);
      stops.delete(stop);
      if (--active === 0) onIdle?.();
    }
  }

  async function runHeld(
    job: Running,
    lease: Lease,
    sink: JobSink,
    stop: AbortController,
    flow?: FlowControl,
  ): Promise<JobOutcome> {
    const held = job.trace.step("hold", () => hold(job, lease.offer));
    if (!billing.expectsGrant(job.request.payer.account)) {
      await held;
      return conclude(job, await attempts.run(job, lease, sink, stop.signal, flow));
    }
    const gate = new Gate(sink, flow);
    held.then(
      () => gate.open(),
      () => stop.abort(),
    );
    const ending = await attempts.run(job, lease, gate, stop.signal, gate);
    await held;
    return conclude(job, ending);
  }

  function beginning(
    request: JobRequest,
    wish: Wish,
    offer: Offer,
    waitedSinceMs: number,
    trace: JobTrace,
  ): Running {
    const startedAtMs = nowMs();
    return {
      jobId: newJobId(startedAtMs),
      request,
      wish,
      quote: quoteFor(request, offer),
      startedAtMs,
      queuedMs: startedAtMs - waitedSinceMs,
      deadlineAtMs: startedAtMs + limits.totalMs,
      triedNodes: new Set(),
      attempts: [],
      firstDeltaAtMs: null,
      trace,
    };
  }

  async function hold(job: Running, offer: Offer): Promise<void> {
    const { jobId, request, quote } = job;
    await billing.hold({
      jobId,
      account: request.payer.account,
      budgetAccount: request.payer.budgetAccount,
      amountMicro: quote.capMicro,
      expiresAt: new Date(job.deadlineAtMs + HOLD_MARGIN_MS),
      rider: runningRider({
        id: jobId,
        consumerId: request.payer.userId,
        keyId: request.payer.keyId,
        kind: request.kind,
        model: request.model,
        nodeId: offer.node.nodeId,
        providerId: offer.node.ownerId,
        quote,
        hubId: options.hubId,
        createdAt: new Date(job.startedAtMs),
        priority: request.priority,
        queuedMs: job.queuedMs,
        digest: offer.offer.digest ?? null,
      }),
      undone: abandonedRider(jobId, "overloaded", new Date(job.startedAtMs)),
    });
    events.changed({
      jobId,
      consumerId: request.payer.userId,
      providerIds: [offer.node.ownerId],
      state: "running",
    });
  }

  /** Settles what was delivered; the caller waits for durability only a bounded while. */
  async function conclude(job: Running, ending: Ending): Promise<JobOutcome> {
    const ended = outcomeOf(job, ending);
    const taken = ended.state !== "completed" || ((await job.request.beforeSettling?.(ended)) ?? true);
    const { providerId, ...outcome } = taken ? ended : outcomeOf(job, disown(job, ending));
    const endedAtMs = nowMs();
    const payments = paymentsOf(job.attempts);
    const settling = {
      jobId: job.jobId,
      payments,
      giveUpAt: new Date(job.deadlineAtMs + HOLD_MARGIN_MS),
      rider: endedRider({
        id: job.jobId,
        state: outcome.state,
        nodeId: outcome.nodeId,
        providerId,
        costMicro: outcome.costMicro,
        feeMicro: outcome.feeMicro,
        usage: outcome.usage,
        ttftMs: outcome.ttftMs,
        durationMs: endedAtMs - job.startedAtMs,
        errorCode: outcome.error?.code ?? null,
        endedAt: new Date(endedAtMs),
        attempts: job.attempts,
      }),
    };
    const settled = job.trace.step("settle", () => billing.settle(settling));
    const told = settled.then(() => {
      events.changed({
        jobId: job.jobId,
        consumerId: job.request.payer.userId,
        providerIds: [...new Set([providerId, ...payments.map((payment) => payment.providerId)])],
        state: outcome.state,
      });
    });
    events.ended(outcome, job.request.kind);
    await withinMs(told, SETTLE_WAIT_MS);
    return outcome;
  }

  return {
    run: (request, sink, signal, flow) =>
      tracer.follow(request, (trace) => run(request, sink, signal, flow, trace)),
    active: () => active,
    async drain(graceMs) {
      draining = true;
      const idle = () =>
        new Promise<void>((resolve) => {
          onIdle = resolve;
          if (active === 0) resolve();
        });
      await withinMs(idle(), graceMs);
      for (const stop of stops) stop.abort(new GfeError("shutting_down", undefined, { retryAfterS: 5 }));
      await withinMs(idle(), limits.receiptMs + SETTLE_WAIT_MS);
    },
  };
}

function withinMs(promise: Promise<unknown>, ms: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    void promise.finally(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
