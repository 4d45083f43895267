/**
 * What an ended attempt says of its node. Pure.
 *
 * Only what is the node's own doing counts. Not counted are: callers that left, requests that were refused as wrong (a
 * node that refuses everything is found by canary prompts), a stopping hub, and empty answers, which a caller can
 * provoke at no cost (a stop sequence that comes first). The time to the first token is taken as it is, with long prompts
 * and short: a promise should leave room for the long ones.
 */
import type { ModelOffer, SignedReceipt, Usage } from "@gfe/protocol";
import type { Delivered } from "../billing/bill.ts";
import type { Measure, ReputationFact } from "./events.ts";

export interface AttemptReport {
  nodeId: string;
  offer: ModelOffer;
  state: "done" | "failed" | "cancelled";
  /** Error code of one that is not done. */
  code: string | null;
  delivered: Delivered;
  receipt: SignedReceipt | undefined;
  /** From the receipt once it was checked; null where it was missing or not valid. */
  claimed: Usage | null;
  choices: number;
  startedAtMs: number;
  firstDeltaAtMs: number | null;
  endedAtMs: number;
  /** A slow reader or an undecided hold made the node pause: its speed is not its own. */
  paused: boolean;
}

/** Codes of failures that are the node's own. */
const NODE_FAILURES = new Set(["engine_failed", "node_lost", "first_token_timeout", "stalled", "no_slot"]);
/** Tokens a choice may have without a byte of text: ends, templates, the frame of a tool call. */
export const OVERCLAIM_SLACK_TOKENS = 32;
/** A signed count of bytes may be off by this share and this many bytes. */
const BYTES_OFF_SHARE = 0.1;
const BYTES_OFF = 64;
/** Fewer tokens, or a shorter stream, say nothing about speed. */
const MEASURED_TOKENS_MIN = 8;
const MEASURED_MS_MIN = 50;

export interface Usual {
  tokensPerSecond?: number;
  ttftMs?: number;
}

/** The name under which reputation is kept: what is behind a model's name may change, its digest does not. */
export const modelKey = ({ digest, model }: Pick<ModelOffer, "digest" | "model">): string => digest ?? model;

/** `usual` stands for what the offer does not promise. */
export function factsOf(report: AttemptReport, usual: Usual): ReputationFact[] {
  if (report.state === "cancelled") return [];
  if (report.state === "failed") {
    const nothing = report.delivered.bytes === 0 && report.delivered.vectors === 0;
    const code = report.code ?? "engine_failed";
    const atFault = NODE_FAILURES.has(code) || (code === "total_timeout" && nothing);
    return atFault ? [{ kind: "failure", reason: code }] : [];
  }
  const facts = receiptFacts(report);
  // An answer that was lied about is no success.
  if (facts.length > 0) return facts;
  if (report.delivered.bytes === 0 && report.delivered.vectors === 0) return [];
  const measure = measureOf(report, usual);
  return [measure ? { kind: "success", measure } : { kind: "success" }];
}

/** What is wrong with the receipt of a done attempt; empty where nothing is. */
export function receiptFacts({
  receipt: signed,
  claimed,
  delivered,
  choices,
  offer,
}: Pick<AttemptReport, "receipt" | "claimed" | "delivered" | "choices" | "offer">): ReputationFact[] {
  const failed = (reason: string): ReputationFact[] => [{ kind: "audit", pass: false, reason }];
  if (!signed || !claimed) return failed("receipt_invalid");
  const { digest, output_bytes: bytes } = signed.receipt;
  if (digest !== null && offer.digest !== undefined && digest !== offer.digest)
    return failed("digest_differs");
  if (claimed.output_tokens > delivered.bytes + OVERCLAIM_SLACK_TOKENS * choices)
    return failed("overclaimed");
  // 0: an agent that does not count.
  if (bytes > 0 && Math.abs(bytes - delivered.bytes) > BYTES_OFF + BYTES_OFF_SHARE * delivered.bytes)
    return failed("receipt_disagrees");
  return [];
}

function measureOf(report: AttemptReport, usual: Usual): Measure | undefined {
  const { delivered, claimed, firstDeltaAtMs, startedAtMs, endedAtMs, offer, paused } = report;
  // An answer in one piece tells neither when its first token was there nor how fast the others came.
  if (firstDeltaAtMs === null || delivered.deltas < 2 || paused) return undefined;
  const tokens = Math.min(claimed?.output_tokens ?? 0, delivered.bytes);
  const streamedMs = endedAtMs - firstDeltaAtMs;
  const measure: Measure = {};
  const promised = { ...usual, ...promiseOf(offer) };
  const ttftMs = firstDeltaAtMs - startedAtMs;
  if (ttftMs > 0) {
    measure.ttft_ms = round(ttftMs);
    if (promised.ttftMs !== undefined) measure.promised_ttft_ms = round(promised.ttftMs);
  }
  if (tokens >= MEASURED_TOKENS_MIN && streamedMs >= MEASURED_MS_MIN) {
    measure.tokens_per_second = round(((tokens - 1) * 1000) / streamedMs);
    if (promised.tokensPerSecond !== undefined)
      measure.promised_tokens_per_second = round(promised.tokensPerSecond);
  }
  return Object.keys(measure).length > 0 ? measure : undefined;
}

function promiseOf({ promised }: ModelOffer): Usual {
  return {
    ...(promised?.tokens_per_second === undefined ? {} : { tokensPerSecond: promised.tokens_per_second }),
    ...(promised?.ttft_ms === undefined ? {} : { ttftMs: promised.ttft_ms }),
  };
}

/** Rows are kept short. */
const round = (value: number): number => Number(value.toPrecision(4));
