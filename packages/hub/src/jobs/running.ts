/** What is known of a job and its attempts while it runs, and what is made of that: rows, reports, the outcome. */
import { GfeError, type Usage } from "@gfe/protocol";
import type { Before, Bill, Delivered } from "../billing/bill.ts";
import type { Payment } from "../billing/billing.ts";
import type { Quote } from "../billing/quote.ts";
import type { Wish } from "../market/match.ts";
import type { Offer } from "../market/registry.ts";
import type { AttemptReport } from "../trust/attempt-facts.ts";
import type { AttemptEnd } from "./attempt.ts";
import type { EndedAttempt } from "./records.ts";
import type { JobTrace } from "./trace.ts";
import type { JobOutcome, JobRequest } from "./types.ts";

export interface Running {
  readonly jobId: string;
  readonly request: JobRequest;
  readonly wish: Wish;
  /** Of the first node: its cap is held, whoever answers in the end. */
  readonly quote: Quote;
  readonly startedAtMs: number;
  readonly queuedMs: number;
  readonly deadlineAtMs: number;
  /** Nodes that were given an attempt. */
  readonly triedNodes: Set<string>;
  /** Attempts that ended, billed; those with a usage said the answer or a part of it. */
  readonly attempts: EndedAttempt[];
  /** When anything of the answer first came; null before. */
  firstDeltaAtMs: number | null;
  readonly trace: JobTrace;
}

/** An attempt's end, with what it takes to bill and to judge it. */
export interface Ending {
  end: AttemptEnd;
  offer: Offer;
  quote: Quote;
  attemptId: string;
  startedAtMs: number;
  /** Whether the node was held back by a slow reader. */
  paused(): boolean;
}

/** What of an attempt's answer reached its caller: who asked for a whole one gets nothing of half of it. */
export function reached(job: Running, end: AttemptEnd): Delivered {
  return job.request.whole && end.state === "failed" ? { bytes: 0, deltas: 0, vectors: 0 } : end.delivered;
}

/** The parts of the answer that were said already; undefined where there is none. */
export function partsBefore({ attempts, quote }: Running): Before | undefined {
  const parts = attempts.filter(({ usage }) => usage !== null);
  if (parts.length === 0) return undefined;
  return {
    outputTokens: parts.reduce((sum, { usage }) => sum + usage!.output_tokens, 0),
    chargeMicro: parts.reduce((sum, { costMicro }) => sum + costMicro, 0n),
    heldMicro: quote.capMicro,
  };
}

export function endedAttempt(job: Running, ending: Ending, bill: Bill, endedAtMs: number): EndedAttempt {
  const { end, offer, attemptId, startedAtMs } = ending;
  const { bytes, vectors } = reached(job, end);
  const counts = end.state === "done" || bytes > 0 || vectors > 0;
  return {
    ...attemptOf(attemptId, offer, startedAtMs, endedAtMs),
    state: end.state === "done" ? "completed" : end.state,
    reason: end.error?.code ?? null,
    usage: counts ? bill.usage : null,
    receipt: end.receipt,
    costMicro: bill.chargeMicro,
    feeMicro: bill.feeMicro,
  };
}

/** One that was cancelled, and whose end nobody waits for. */
export function abandonedAttempt(
  id: string,
  offer: Offer,
  startedAtMs: number,
  endedAtMs: number,
): EndedAttempt {
  return {
    ...attemptOf(id, offer, startedAtMs, endedAtMs),
    ...{
      state: "cancelled",
      reason: "cancelled",
      usage: null,
      receipt: undefined,
      costMicro: 0n,
      feeMicro: 0n,
    },
  };
}

const attemptOf = (id: string, { node }: Offer, startedAtMs: number, endedAtMs: number) => ({
  id,
  nodeId: node.nodeId,
  nodeName: node.announcement.name,
  providerId: node.ownerId,
  startedAt: new Date(startedAtMs),
  endedAt: new Date(endedAtMs),
});

/** What reputation is made of: counts and times, nothing of what was said. */
export function reportOf(
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

/** The job's node is the one that said something last. */
export function outcomeOf(
  job: Running,
  { end, quote }: Ending,
): JobOutcome & { nodeId: string; providerId: string } {
  const parts = job.attempts.filter(({ usage }) => usage !== null);
  const last = (parts.at(-1) ?? job.attempts.at(-1))!;
  return {
    jobId: job.jobId,
    state: end.state === "done" ? "completed" : end.state,
    finish: end.finish,
    usage: sumOf(parts.map(({ usage }) => usage!)),
    costMicro: parts.reduce((sum, { costMicro }) => sum + costMicro, 0n),
    feeMicro: parts.reduce((sum, { feeMicro }) => sum + feeMicro, 0n),
    quote: parts.length > 1 ? job.quote : quote,
    nodeId: last.nodeId,
    nodeName: last.nodeName,
    providerId: last.providerId,
    nodes: [...new Set(parts.map(({ nodeId }) => nodeId))],
    ttftMs: job.firstDeltaAtMs === null ? null : job.firstDeltaAtMs - job.startedAtMs,
    ...(end.error ? { error: end.error } : {}),
  };
}

/** Nobody takes the answer any more: the job is cancelled, and what its attempts did is not paid. */
export function disown(job: Running, ending: Ending): Ending {
  job.attempts.splice(0, Infinity, ...job.attempts.map((one) => ({ ...one, costMicro: 0n, feeMicro: 0n })));
  return { ...ending, end: { ...ending.end, state: "cancelled", error: new GfeError("cancelled") } };
}

export function paymentsOf(attempts: readonly EndedAttempt[]): Payment[] {
  return attempts
    .filter(({ costMicro }) => costMicro > 0n)
    .map(({ providerId, costMicro, feeMicro }) => ({
      providerId,
      providerMicro: costMicro - feeMicro,
      feeMicro,
    }));
}

function sumOf(usages: readonly Usage[]): Usage {
  const [only, ...more] = usages;
  if (only && more.length === 0) return only;
  const sum = (of: (usage: Usage) => number) => usages.reduce((total, usage) => total + of(usage), 0);
  return {
    input_tokens: sum((usage) => usage.input_tokens),
    cached_input_tokens: sum((usage) => usage.cached_input_tokens),
    output_tokens: sum((usage) => usage.output_tokens),
    reasoning_tokens: sum((usage) => usage.reasoning_tokens),
    estimated: usages.some(({ estimated }) => estimated),
  };
}
