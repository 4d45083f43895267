/**
 * The attempts of one job: one node after another until one ends the answer, the caller leaves, or none is left.
 *
 *   nobody waits, its node was lost ──it comes back in time──► it tells what it has, under the attempt's id (RETURNS_MAX times)
 *   nothing reached the caller yet ──failure──► another node begins anew (at most ATTEMPTS_MAX nodes)
 *                                  ──its slot was taken already──► it waits for another one, as before (BUSY_MAX times)
 *                                  ──no token for long, and asked for──► a second node beside the first (hedging.ts)
 *   text reached the caller        ──failure──► another node goes on behind it (continuation.ts)
 *   anything else reached it       ──failure──► the end
 *
 * All of it is inside the one hold and on the model that was first chosen: never on another digest unless the consumer
 * allowed that, and then only before anything was said.
 */
import { type AttemptStart, type ErrorCode, newAttemptId } from "@gfe/protocol";
import { billOf } from "../billing/bill.ts";
import type { Wish } from "../market/match.ts";
import type { Matcher } from "../market/matcher.ts";
import type { AttemptMeasure } from "../market/measures.ts";
import { identityOf, type Offer } from "../market/registry.ts";
import type { Returns } from "../market/returns.ts";
import type { AttemptReport } from "../trust/attempt-facts.ts";
import { checkedUsage } from "../trust/receipts.ts";
import { type AttemptEnd, type AttemptTimeouts, runAttempt } from "./attempt.ts";
import { type BreakerVerdict, createBreaker } from "./breaker.ts";
import { CONTINUATIONS_MAX, isContinuable, SaidSoFar, wishToContinue } from "./continuation.ts";
import type { Dispatcher } from "./dispatcher.ts";
import { watchPauses } from "./flow.ts";
import { createHedging } from "./hedging.ts";
import { measureOf } from "./measured.ts";
import { type Lane, Race } from "./race.ts";
import { isPatient, KEEP_MS, RETURNS_MAX, returned } from "./returning.ts";
import {
  abandonedAttempt,
  type Ending,
  endedAttempt,
  partsBefore,
  type Running,
  reached,
  reportOf,
} from "./running.ts";
import type { Lease, SlotQueue } from "./slot-queue.ts";
import { engineBody, inputTokensEstimate, isShortWhole, quoteFor } from "./terms.ts";
import type { FlowControl, JobSink } from "./types.ts";

/** Nodes that one job may try before anything of its answer came. */
export const ATTEMPTS_MAX = 3;
/** Times that a slot may turn out to be taken: another hub was quicker, or the node knows better than the hub. */
export const BUSY_MAX = 8;
const NOTHING = { input_tokens: 0, output_tokens: 0 };

export interface AttemptsOptions {
  queue: Pick<SlotQueue, "acquire" | "tryAcquire">;
  dispatcher: Dispatcher;
  limits: AttemptTimeouts & WaitLimits;
  feeBasisPoints: number;
  nowMs: () => number;
  /** No new attempt is begun any more. */
  draining: () => boolean;
  attempted(report: AttemptReport): void;
  began?: Matcher["began"] | undefined;
  /** Where it is not given, nodes that were lost are not waited for. */
  returns?: Returns | undefined;
}

export interface WaitLimits {
  queueWaitMs: number;
  /** How long batch work may wait. */
  batchWaitMs: number;
}

export interface Attempts {
  /**
   * Says of nodes whether they may be asked for a model: those that failed again and again may not. As it is now: who waits
   * for a slot waits for the nodes of that moment, and tries them, rather than for a breaker that nobody tells of.
   */
  allowing(model: string): (nodeId: string) => boolean;
  /** Runs to the end of the answer, and gives every slot back; never rejects. Each attempt is put on the job, billed. */
  run(
    job: Running,
    first: Lease,
    sink: JobSink,
    signal: AbortSignal,
    flow: FlowControl | undefined,
  ): Promise<Ending>;
}

/** What an attempt is given beside its job and its node. */
interface Course {
  sink: JobSink;
  signal: AbortSignal;
  flow: FlowControl | undefined;
  prefix?: AttemptStart["prefix"];
  /** Whether another attempt has the answer. */
  lost?: boolean;
}

export function createAttempts(options: AttemptsOptions): Attempts {
  const { queue, dispatcher, limits, nowMs } = options;
  const breaker = createBreaker();
  const hedging = createHedging();

  async function run(
    job: Running,
    first: Lease,
    sink: JobSink,
    signal: AbortSignal,
    flow: FlowControl | undefined,
  ): Promise<Ending> {
    hedging.began();
    const said = isContinuable(job.request, first.offer) ? new SaidSoFar(sink) : null;
    const course: Course = { sink: said ?? sink, signal, flow };
    let continuations = 0;
    let busy = 0;
    for (let ending = await begin(job, first, course); ; ) {
      ending = await askedAgain(job, ending, course);
      await account(job, ending);
      const { end, offer } = ending;
      if (end.state !== "failed" || !end.retryable) return ending;
      if (options.draining() || signal.aborted || nowMs() >= job.deadlineAtMs) return ending;
      const before = partsBefore(job);
      let wish: Wish;
      const wasBusy = end.error?.code === "no_slot";
      if (wasBusy && ++busy <= BUSY_MAX) job.triedNodes.delete(offer.node.nodeId);
      if (!before) {
        if (job.attempts.length - Math.min(busy, BUSY_MAX) >= ATTEMPTS_MAX) return ending;
        wish = wishAnew(job, offer);
      } else {
        const pieces = said?.soFar ?? null;
        if (pieces === null || ++continuations > CONTINUATIONS_MAX) return ending;
        course.prefix = { pieces, tokens: Math.max(1, before.outputTokens) };
        wish = wishToContinue(job, before, first.offer.offer.digest!, allowing(job.wish.model));
      }
      const next = queue.tryAcquire(wish) ?? (wasBusy ? await wait(job, wish, course.signal) : null);
      if (!next) return ending;
      ending = await attemptOn(job, next, course);
    }
  }

  /** A slot in its turn; null where none comes in time, or the caller leaves. */
  async function wait({ request }: Running, wish: Wish, signal: AbortSignal): Promise<Lease | null> {
    const { priority } = request;
    const waitMs = priority === "batch" ? limits.batchWaitMs : limits.queueWaitMs;
    const lease = await queue.acquire(wish, { priority, waitMs }, signal).catch(() => null);
    if (!lease) return null;
    // What it is charged for in the queue is the lease that the job began with.
    const release = () => {
      lease.release();
      lease.served(NOTHING);
    };
    return { ...lease, release };
  }

  /** The first attempt, with another beside it where it is slow and the caller asked for that. */
  async function begin(job: Running, lease: Lease, course: Course): Promise<Ending> {
    const delayMs = job.request.steering?.hedge ? hedging.delayMs(job.wish.model) : null;
    if (delayMs === null || inOnePiece(job, lease.offer)) return attemptOn(job, lease, course);
    const race = new Race(course);
    const one = runner(job, lease, race.lane());
    await Promise.race([race.decidedWithin(delayMs), one.ending]);
    const isSlow = !one.isOver() && race.winner === null && !course.signal.aborted && !options.draining();
    const other = isSlow ? hedging.take(() => queue.tryAcquire(wishAnew(job, lease.offer))) : null;
    if (!other) return one.ending;
    const two = runner(job, other, race.lane());
    const [first, ending] = await Promise.race(
      [one, two].map(async (each) => [each, await each.ending] as const),
    );
    const second = first === one ? two : one;
    if (first.lane.lost || (race.winner === null && ending.end.state === "failed")) {
      await account(job, ending);
      return second.ending;
    }
    race.take(first.lane);
    // A node too slow to answer may be as slow to stop: nobody waits for that.
    job.attempts.push(second.abandoned());
    void second.ending.then((late) => options.attempted(reportOf(job, late, null, nowMs())));
    return ending;
  }

  /** An attempt in a race. */
  function runner(job: Running, lease: Lease, lane: Lane) {
    let isOver = false;
    const startedAtMs = nowMs();
    const id = newAttemptId(startedAtMs);
    const ending = attemptOn(job, lease, lane, id).finally(() => {
      isOver = true;
    });
    const abandoned = () => abandonedAttempt(id, lease.offer, startedAtMs, nowMs());
    return { lane, ending, isOver: () => isOver, abandoned };
  }

  /** Gives the slot back at its end. */
  async function attemptOn(
    job: Running,
    lease: Lease,
    course: Course,
    attemptId = newAttemptId(nowMs()),
  ): Promise<Ending> {
    const { request, wish } = job;
    const { offer } = lease;
    const { node } = offer;
    const { prefix } = course;
    const startedAtMs = nowMs();
    // Not by the nodes tried: one that was busy counts as none, and the next has a price of its own.
    const isFirst = job.attempts.length === 0 && job.triedNodes.size === 0;
    const quote = isFirst ? job.quote : quoteFor(request, offer);
    job.triedNodes.add(node.nodeId);
    if (!prefix) tellStarted(job, offer, course);
    const measured = options.began?.(offer, wish.outputTokens);
    const watched = watchPauses(course.flow);
    breaker.began(node.nodeId, wish.model, startedAtMs);
    const traced = job.trace.attempt(attemptId, offer);
    const { traceparent } = traced;
    const end = await runOn(job, offer, attemptId, course, watched.flow, traceparent);
    const endedAtMs = nowMs();
    traced.ended(end, startedAtMs, endedAtMs);
    const { firstDeltaAtMs } = end;
    if (firstDeltaAtMs !== null && !course.lost) {
      job.firstDeltaAtMs ??= firstDeltaAtMs;
      if (!prefix && !inOnePiece(job, offer)) hedging.took(wish.model, firstDeltaAtMs - startedAtMs);
    }
    measured?.(course.lost ? slowStart(endedAtMs - startedAtMs) : measureOf(end, startedAtMs, endedAtMs));
    breaker.ended(node.nodeId, wish.model, verdictOf(end), endedAtMs);
    lease.release();
    return { end, offer, quote, attemptId, startedAtMs, paused: watched.paused };
  }

  const tellStarted = ({ jobId, quote }: Running, { node }: Offer, { sink }: Course): void =>
    sink.started?.({
      ...{ jobId, nodeId: node.nodeId, nodeName: node.announcement.name },
      capMicro: quote.capMicro,
    });

  function runOn(
    job: Running,
    { node, offer }: Offer,
    attemptId: string,
    { sink, signal, prefix }: Course,
    flow: FlowControl | undefined,
    traceparent?: string,
  ): Promise<AttemptEnd> {
    const { request, deadlineAtMs } = job;
    return runAttempt({
      dispatcher,
      nodeId: node.nodeId,
      start: {
        attempt: attemptId,
        kind: request.kind,
        model: offer.model,
        body: engineBody(request, { node, offer }),
        ...(inOnePiece(job, { node, offer }) ? { whole: true } : {}),
        ...(prefix ? { prefix } : {}),
        ...(traceparent === undefined ? {} : { traceparent }),
        ...(options.returns && isPatient(request) ? { keep_ms: KEEP_MS } : {}),
        deadline_ms: Math.max(1, Math.round(deadlineAtMs - nowMs())),
      },
      ...{ sink, signal, flow, deadlineAtMs, nowMs },
      timeouts: limits,
    });
  }

  /** What a lost node said and signed, if it comes back and tells: once, and as if it had never been away (returning.ts). */
  async function askedAgain(job: Running, lost: Ending, course: Course): Promise<Ending> {
    const { returns } = options;
    let ending = lost;
    for (let times = 0; returns && isPatient(job.request) && times < RETURNS_MAX; times++) {
      const offer = options.draining() ? null : await returned(returns, ending, course.signal);
      if (!offer) break;
      tellStarted(job, offer, course);
      breaker.began(offer.node.nodeId, job.wish.model, nowMs());
      // Without a slot of its own: the node counts it among those that began elsewhere.
      const end = await runOn(job, offer, ending.attemptId, course, course.flow);
      breaker.ended(offer.node.nodeId, job.wish.model, verdictOf(end), nowMs());
      ending = { ...ending, end };
    }
    return ending;
  }

  /** Checks what the node signed, bills what reached the caller, and puts the attempt on the job. */
  async function account(job: Running, ending: Ending): Promise<void> {
    const { end, offer, quote, attemptId } = ending;
    const endedAtMs = nowMs();
    const nodeKey = dispatcher.nodeKey(offer.node.nodeId);
    const claimed = await checkedUsage(end.receipt, { attemptId, nodeKey });
    options.attempted(reportOf(job, ending, claimed, endedAtMs));
    const bill = billOf({
      quote,
      ending: end.state === "failed" ? "broken" : "complete",
      delivered: reached(job, end),
      claimed,
      ...(end.state === "done" ? {} : { claimedBytes: end.receipt?.receipt.output_bytes }),
      inputTokensEstimate: inputTokensEstimate(job.request),
      feeBasisPoints: options.feeBasisPoints,
      before: partsBefore(job),
    });
    job.attempts.push(endedAttempt(job, ending, bill, endedAtMs));
  }

  /** The same model on a node that was not tried, within what is held. */
  const wishAnew = (job: Running, first: Offer): Wish => ({
    ...job.wish,
    digest: identityOf(first),
    allows: allowing(job.wish.model),
    excluded: new Set(job.triedNodes),
    affordable: (other) => quoteFor(job.request, other).capMicro <= job.quote.capMicro,
  });

  const inOnePiece = ({ request }: Running, offer: Offer): boolean =>
    isShortWhole(request, offer, limits.firstTokenMs);

  function allowing(model: string): (nodeId: string) => boolean {
    const out = breaker.excluded(model, nowMs());
    return (nodeId) => !out.has(nodeId);
  }

  return { allowing, run };
}

/** What speaks of a node's health, and not of the request, the caller or a moment's load. */
const NODE_FAULTS: readonly ErrorCode[] = ["engine_failed", "node_lost", "first_token_timeout", "stalled"];

function verdictOf({ state, error }: AttemptEnd): BreakerVerdict {
  if (state === "done") return "succeeded";
  return state === "failed" && error && NODE_FAULTS.includes(error.code) ? "failed" : "none";
}

/** Of a node that another one overtook, it is known that its first token takes at least so long. */
const slowStart = (ms: number): AttemptMeasure => ({ ok: true, ttftMs: ms, durationMs: ms, outputTokens: 0 });
