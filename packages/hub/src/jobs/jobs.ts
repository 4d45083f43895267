/**
 * A job, from match to settlement.
 *
 *   (queued) ──slot──► held ──► attempt … attempt ──► settling ──► completed | failed | cancelled
 *
 * The hold and the row `running` are one write, the settlement and the ended row another. For a caller whose last hold
 * was granted the first attempt does not wait for the hold: the answer does (see gate.ts). Before anything of it reached
 * its caller a failed attempt moves to the next-best node inside the same hold; after that, the job ends and pays for
 * what was delivered. A job ends exactly once: the ledger resolves its hold once, and the ended row goes with it.
 */
import { type ErrorCode, GfeError, newAttemptId, newJobId, type Usage } from "@gfe/protocol";
import type { Billing } from "../billing/billing.ts";
import { type Bill, billOf, type Delivered, type Quote } from "../billing/quote.ts";
import type { Wish } from "../market/match.ts";
import type { Matcher } from "../market/matcher.ts";
import type { Offer } from "../market/registry.ts";
import type { AttemptReport } from "../trust/attempt-facts.ts";
import { checkedUsage } from "../trust/receipts.ts";
import { type AttemptEnd, type AttemptTimeouts, runAttempt } from "./attempt.ts";
import { type BreakerVerdict, createBreaker } from "./breaker.ts";
import type { Dispatcher } from "./dispatcher.ts";
import { watchPauses } from "./flow.ts";
import { Gate } from "./gate.ts";
import { measureOf } from "./measured.ts";
import { type EndedAttempt, endedRider, runningRider } from "./records.ts";
import type { Lease, SlotQueue } from "./slot-queue.ts";
import { engineBody, inputTokensEstimate, isShortWhole, quoteFor, wishOf } from "./terms.ts";
import type { FlowControl, JobOutcome, JobRequest, JobSink, Jobs } from "./types.ts";

/** Nodes that one job may try. */
export const ATTEMPTS_MAX = 3;
/** A hold outlives its job's total time by this much, so that a settlement can be tried again. */
export const HOLD_MARGIN_MS = 10 * 60_000;
/** How long a caller waits for its settlement to be durable; it goes on being tried after that. */
export const SETTLE_WAIT_MS = 3_000;

const NOTHING = { input_tokens: 0, output_tokens: 0 };

export interface JobLimits extends AttemptTimeouts {
  queueWaitMs: number;
  /** How long batch work may wait. */
  batchWaitMs: number;
  totalMs: number;
}

export interface JobEvents {
  changed(change: {
    jobId: string;
    consumerId: string;
    providerId: string;
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
  /** Whether a model or alias of that name is offered now. */
  isOffered?: (name: string) => boolean;
  /** An attempt begins; what it returns is called with how it went, or null where that says nothing of the node. */
  began?: Matcher["began"];
}

/** What is known of a job while it runs. */
interface Running {
  readonly jobId: string;
  readonly request: JobRequest;
  readonly wish: Wish;
  readonly quote: Quote;
  readonly startedAtMs: number;
  readonly queuedMs: number;
  readonly deadlineAtMs: number;
  readonly tried: EndedAttempt[];
}

interface Ending {
  end: AttemptEnd;
  offer: Offer;
  quote: Quote;
  attemptId: string;
  startedAtMs: number;
  /** Whether the node was held back by a slow reader. */
  paused(): boolean;
}

export function createJobs(options: JobsOptions): Jobs {
  const { queue, billing, dispatcher, limits, nowMs, events } = options;
  const breaker = createBreaker();
  let active = 0;
  let draining = false;
  /** One for each job that runs: the caller's hanging up, a refused hold and the end of a drain stop it alike. */
  const stops = new Set<AbortController>();
  let onIdle: (() => void) | null = null;

  async function run(
    request: JobRequest,
    sink: JobSink,
    callerSignal: AbortSignal,
    flow?: FlowControl,
  ): Promise<JobOutcome> {
    if (draining) throw new GfeError("shutting_down", undefined, { retryAfterS: 5 });
    active++;
    const stop = new AbortController();
    stops.add(stop);
    const onLeave = () => stop.abort();
    if (callerSignal.aborted) onLeave();
    callerSignal.addEventListener("abort", onLeave, { once: true });
    try {
      const wish = {
        ...wishOf(request, options.isOffered),
        excluded: breaker.excluded(request.model, nowMs()),
      };
      const waitedSinceMs = nowMs();
      const { priority } = request;
      const waitMs = priority === "batch" ? limits.batchWaitMs : limits.queueWaitMs;
      const queued = sink.queued?.bind(sink);
      const lease = await queue.acquire(wish, { priority, waitMs, queued }, stop.signal);
      try {
        const job = beginning(request, wish, lease.offer, waitedSinceMs);
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
    const held = hold(job, lease.offer);
    if (!billing.expectsGrant(job.request.payer.account)) {
      await held;
      return conclude(job, await attempts(job, lease, sink, stop.signal, flow));
    }
    const gate = new Gate(sink, flow);
    held.then(
      () => gate.open(),
      () => stop.abort(),
    );
    const ending = await attempts(job, lease, gate, stop.signal, gate);
    await held;
    return conclude(job, ending);
  }

  function beginning(request: JobRequest, wish: Wish, offer: Offer, waitedSinceMs: number): Running {
    const startedAtMs = nowMs();
    return {
      jobId: newJobId(startedAtMs),
      request,
      wish,
      quote: quoteFor(request, offer),
      startedAtMs,
      queuedMs: startedAtMs - waitedSinceMs,
      deadlineAtMs: startedAtMs + limits.totalMs,
      tried: [],
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
    });
    events.changed({
      jobId,
      consumerId: request.payer.userId,
      providerId: offer.node.ownerId,
      state: "running",
    });
  }

  /** Tries nodes until one delivers something, the caller leaves, or none is left. */
  async function attempts(
    job: Running,
    first: Lease,
    sink: JobSink,
    signal: AbortSignal,
    flow?: FlowControl,
  ): Promise<Ending> {
    const failing = new Set<string>();
    for (let lease = first; ; ) {
      const ending = await attemptOn(job, lease.offer, sink, signal, flow);
      lease.release();
      const { end } = ending;
      const { bytes, vectors } = reached(job, end);
      const empty = bytes === 0 && vectors === 0;
      const again = end.state === "failed" && end.retryable && empty && job.tried.length + 1 < ATTEMPTS_MAX;
      if (!again || draining || signal.aborted || nowMs() >= job.deadlineAtMs) return ending;
      failing.add(lease.offer.node.nodeId);
      const excluded = new Set([...failing, ...breaker.excluded(job.request.model, nowMs())]);
      const affordable = (offer: Offer) => quoteFor(job.request, offer).capMicro <= job.quote.capMicro;
      const next = queue.tryAcquire({ ...job.wish, excluded, affordable });
      if (!next) return ending;
      const endedAtMs = nowMs();
      job.tried.push(tried(ending, null, endedAtMs));
      events.attempted(reportOf(job, ending, null, endedAtMs));
      lease = next;
    }
  }

  async function attemptOn(
    job: Running,
    offer: Offer,
    sink: JobSink,
    signal: AbortSignal,
    flow?: FlowControl,
  ): Promise<Ending> {
    const { node } = offer;
    const startedAtMs = nowMs();
    const attemptId = newAttemptId(startedAtMs);
    const quote = job.tried.length === 0 ? job.quote : quoteFor(job.request, offer);
    sink.started?.({
      jobId: job.jobId,
      nodeId: node.nodeId,
      nodeName: node.announcement.name,
      capMicro: job.quote.capMicro,
    });
    const measured = options.began?.(offer, job.wish.outputTokens);
    const watched = watchPauses(flow);
    breaker.began(node.nodeId, job.request.model, startedAtMs);
    const end = await runAttempt({
      dispatcher,
      nodeId: node.nodeId,
      start: {
        attempt: attemptId,
        kind: job.request.kind,
        model: offer.offer.model,
        body: engineBody(job.request, offer),
        ...(isShortWhole(job.request, offer, limits.firstTokenMs) ? { whole: true } : {}),
        deadline_ms: Math.max(1, Math.round(job.deadlineAtMs - startedAtMs)),
      },
      sink,
      signal,
      flow: watched.flow,
      timeouts: limits,
      deadlineAtMs: job.deadlineAtMs,
      nowMs,
    });
    measured?.(measureOf(end, startedAtMs, nowMs()));
    breaker.ended(node.nodeId, job.request.model, verdictOf(end), nowMs());
    return { end, offer, quote, attemptId, startedAtMs, paused: watched.paused };
  }

  /** Bills what was delivered and settles; the caller waits for durability only a bounded while. */
  async function conclude(job: Running, ending: Ending): Promise<JobOutcome> {
    const { end, offer, quote, attemptId } = ending;
    const { node } = offer;
    const nodeKey = dispatcher.nodeKey(node.nodeId);
    const saidAtMs = nowMs();
    const claimed = await checkedUsage(end.receipt, { attemptId, nodeKey });
    events.attempted(reportOf(job, ending, claimed, saidAtMs));
    const bill = billOf({
      quote,
      ending: end.state === "failed" ? "broken" : "complete",
      delivered: reached(job, end),
      claimed,
      inputTokensEstimate: inputTokensEstimate(job.request),
      feeBasisPoints: options.feeBasisPoints,
    });
    const outcome = outcomeOf(job, ending, bill);
    if (outcome.state === "completed") await job.request.beforeSettling?.(outcome);
    const endedAtMs = nowMs();
    const settled = billing.settle({
      jobId: job.jobId,
      bill,
      providerId: node.ownerId,
      giveUpAt: new Date(job.deadlineAtMs + HOLD_MARGIN_MS),
      rider: endedRider({
        id: job.jobId,
        state: outcome.state,
        nodeId: node.nodeId,
        providerId: node.ownerId,
        costMicro: bill.chargeMicro,
        feeMicro: bill.feeMicro,
        usage: bill.usage,
        ttftMs: outcome.ttftMs,
        durationMs: endedAtMs - job.startedAtMs,
        errorCode: outcome.error?.code ?? null,
        endedAt: new Date(endedAtMs),
        attempts: [...job.tried, tried(ending, bill, endedAtMs)],
      }),
    });
    const told = settled.then(() => {
      events.changed({
        jobId: job.jobId,
        consumerId: job.request.payer.userId,
        providerId: node.ownerId,
        state: outcome.state,
      });
    });
    events.ended(outcome, job.request.kind);
    await withinMs(told, SETTLE_WAIT_MS);
    return outcome;
  }

  return {
    run,
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

/** What speaks of a node's health, and not of the request, the caller or a moment's load. */
const NODE_FAULTS: readonly ErrorCode[] = ["engine_failed", "node_lost", "first_token_timeout", "stalled"];

function verdictOf({ state, error }: AttemptEnd): BreakerVerdict {
  if (state === "done") return "succeeded";
  return state === "failed" && error && NODE_FAULTS.includes(error.code) ? "failed" : "none";
}

/** What of an attempt's answer reached its caller: who asked for a whole one gets nothing of half of it. */
function reached(job: Running, end: AttemptEnd): Delivered {
  return job.request.whole && end.state === "failed" ? { bytes: 0, deltas: 0, vectors: 0 } : end.delivered;
}

function tried(ending: Ending, bill: Bill | null, endedAtMs: number): EndedAttempt {
  const { end, offer, attemptId, startedAtMs } = ending;
  return {
    id: attemptId,
    nodeId: offer.node.nodeId,
    providerId: offer.node.ownerId,
    state: end.state === "done" ? "completed" : end.state,
    reason: end.error?.code ?? null,
    usage: bill?.usage ?? null,
    receipt: end.receipt,
    costMicro: bill?.chargeMicro ?? 0n,
    feeMicro: bill?.feeMicro ?? 0n,
    startedAt: new Date(startedAtMs),
    endedAt: new Date(endedAtMs),
  };
}

/** What reputation is made of: counts and times, nothing of what was said. */
function reportOf(
  { request }: Running,
  { end, offer, startedAtMs, paused }: Ending,
  claimed: Usage | null,
  endedAtMs: number,
): AttemptReport {
  return {
    nodeId: offer.node.nodeId,
    offer: offer.offer,
    state: end.state,
    code: end.error?.code ?? null,
    delivered: end.delivered,
    receipt: end.receipt,
    claimed,
    choices: request.choices,
    startedAtMs,
    firstDeltaAtMs: end.firstDeltaAtMs,
    endedAtMs,
    paused: paused(),
  };
}

function outcomeOf(job: Running, { end, offer, quote }: Ending, bill: Bill): JobOutcome {
  return {
    jobId: job.jobId,
    state: end.state === "done" ? "completed" : end.state,
    finish: end.finish,
    usage: bill.usage,
    costMicro: bill.chargeMicro,
    feeMicro: bill.feeMicro,
    quote,
    nodeId: offer.node.nodeId,
    nodeName: offer.node.announcement.name,
    ttftMs: end.firstDeltaAtMs === null ? null : end.firstDeltaAtMs - job.startedAtMs,
    ...(end.error ? { error: end.error } : {}),
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
