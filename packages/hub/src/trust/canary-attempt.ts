/** One canary prompt: asked as a job would ask it, but unpaid, and what is to be said of the answer. */
import {
  type AttemptFailure,
  type AttemptStart,
  type DeltaKind,
  deltaKind,
  type FinishReason,
  type ModelOffer,
  newAttemptId,
  type SignedReceipt,
} from "@gfe/protocol";
import type { Offer } from "../market/registry.ts";
import { receiptFacts } from "./attempt-facts.ts";
import type { ReputationFact } from "./events.ts";
import { checkedUsage } from "./receipts.ts";

/** A model may have to be loaded first. */
export const CANARY_TIMEOUT_MS = 60_000;
const OUTPUT_TOKENS_MAX = 32;

interface CanarySink {
  delta(kind: DeltaKind, payload: Uint8Array): void;
  done(finish: FinishReason[], receipt: SignedReceipt): void;
  failed(code: AttemptFailure | "node_lost", message: string, receipt?: SignedReceipt): void;
}

/** What of the dispatcher (jobs/dispatcher.ts) canary prompts need. */
export interface CanaryDispatcher {
  start(
    nodeId: string,
    attempt: Omit<AttemptStart, "type" | "channel">,
    sink: CanarySink,
  ): { cancel(reason: string): void; forget(): void } | null;
  nodeKey(nodeId: string): string | undefined;
}

export type Verdict = "passed" | "failed" | "none" | { wrong: ReputationFact };

export interface CanaryAnswer {
  verdict: Verdict;
  /** How the attempt failed, or that it never ended; null where it ended well. */
  failure: { code: AttemptFailure | "node_lost" | "silent"; message: string } | null;
  /** Milliseconds; null where nothing came. */
  firstTokenMs: number | null;
  totalMs: number;
  /** As the node counts them: of no consequence. */
  outputTokens: number;
}

export interface CanaryDeps {
  dispatcher: CanaryDispatcher;
  nowMs: () => number;
  random: () => number;
}

const NO_VERDICT: ReadonlySet<string> = new Set(["busy", "draining", "cancelled", "node_lost"]);

/** Never rejects; "none" where the signal aborts it. */
export function askCanary(
  offer: Offer,
  { dispatcher, nowMs, random }: CanaryDeps,
  signal: AbortSignal,
): Promise<CanaryAnswer> {
  const { node, offer: model } = offer;
  const { kind, body } = promptFor(model, random);
  const attempt = newAttemptId();
  const delivered = { bytes: 0, deltas: 0, vectors: 0 };
  const startedAtMs = nowMs();
  let firstTokenMs: number | null = null;
  let outputTokens = 0;
  return new Promise((resolve) => {
    const end = (verdict: Verdict, failure: CanaryAnswer["failure"] = null) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      handle?.forget();
      resolve({ verdict, failure, firstTokenMs, totalMs: nowMs() - startedAtMs, outputTokens });
    };
    const onAbort = () => {
      handle?.cancel("canary");
      end("none");
    };
    const timer = setTimeout(() => {
      handle?.cancel("canary");
      end("failed", { code: "silent", message: `nothing ended within ${CANARY_TIMEOUT_MS / 1000} s` });
    }, CANARY_TIMEOUT_MS);
    signal.addEventListener("abort", onAbort, { once: true });
    const start = { attempt, kind, model: model.model, body, deadline_ms: CANARY_TIMEOUT_MS };
    const handle = dispatcher.start(node.nodeId, start, {
      delta(kind, payload) {
        firstTokenMs ??= nowMs() - startedAtMs;
        delivered.deltas++;
        if (kind === deltaKind.embeddings) delivered.vectors++;
        else delivered.bytes += payload.byteLength;
      },
      done(_finish, receipt) {
        const nodeKey = dispatcher.nodeKey(node.nodeId);
        void checkedUsage(receipt, { attemptId: attempt, nodeKey }).then((claimed) => {
          outputTokens = claimed?.output_tokens ?? 0;
          const [wrong] = receiptFacts({ receipt, claimed, delivered, choices: 1, offer: model });
          if (wrong) end({ wrong });
          else end(delivered.deltas > 0 ? "passed" : "failed");
        });
      },
      failed: (code, message) => end(NO_VERDICT.has(code) ? "none" : "failed", { code, message }),
    });
    if (!handle) end("none", { code: "node_lost", message: "the node is not connected any more" });
  });
}

/** Different each time, and like what people ask: a node cannot tell it from a job by its words. */
function promptFor(
  { capabilities }: ModelOffer,
  random: () => number,
): { kind: AttemptStart["kind"]; body: Record<string, unknown> } {
  const number = () => 2 + Math.floor(random() * 97);
  const question = `What is ${number()} plus ${number()}? Answer briefly.`;
  const max_tokens = OUTPUT_TOKENS_MAX;
  if (capabilities.includes("chat"))
    return { kind: "chat", body: { messages: [{ role: "user", content: question }], max_tokens } };
  if (capabilities.includes("embedding")) return { kind: "embedding", body: { input: [question] } };
  return { kind: "completion", body: { prompt: question, max_tokens } };
}
