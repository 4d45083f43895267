/**
 * Canary prompts: now and then, at a random time, an idle node is asked something short, as a job would ask it but
 * unpaid: there is no job, no hold and nobody to bill, only an attempt on the link and a row in the reputation's log.
 *
 * What is compared is what can be compared honestly: that it answers at all, that its signed receipt names the digest it
 * announced, and that its usage fits the bytes. What it says is not judged: text tells nothing (sampling, templates).
 * An error or silence counts only when it comes twice in a row; what is signed and wrong counts at once; a node that
 * says it is busy, drains, or disconnects tells nothing. Comparing log-probabilities will be one more check here.
 *
 *   idle node, due ──slot──► asked ──passed───► in an interval
 *                              ├──failed────► once more, soon ──failed──► audit failed, in an interval
 *                              └──no verdict──► in an interval
 */
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
import type { NodeEntry, Offer, Registry } from "../market/registry.ts";
import { modelKey, receiptFacts } from "./attempt-facts.ts";
import type { ReputationFact } from "./events.ts";
import { checkedUsage } from "./receipts.ts";
import type { Reputation } from "./reputation.ts";

/** Of all nodes together. */
export const CANARIES_AT_ONCE = 8;
/** A model may have to be loaded first. */
export const CANARY_TIMEOUT_MS = 60_000;
/** A newcomer's first, and the second after a failure, come within this time. */
const SOON_MS = 30_000;
const TICK_MS = 250;
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

export interface CanaryOptions {
  registry: Registry;
  dispatcher: CanaryDispatcher;
  reputation: Pick<Reputation, "record" | "standingOf">;
  /** 0 turns it off. */
  intervalMs: number;
  nowMs: () => number;
  random: () => number;
}

type Verdict = "passed" | "failed" | "none" | { wrong: ReputationFact };

interface Due {
  atMs: number;
  /** The model whose last canary failed. */
  again: string | null;
}

/** Returns the function that ends it: running ones are cancelled and tell nothing. */
export function startCanaries(options: CanaryOptions): () => void {
  const { registry, reputation, intervalMs, nowMs, random } = options;
  if (intervalMs === 0) return () => {};
  const due = new Map<string, Due>();
  const stops = new Set<AbortController>();

  const later = () => nowMs() + intervalMs * (0.5 + random());
  const soon = () => nowMs() + Math.min(intervalMs, SOON_MS) * random();

  // Other hubs' nodes are theirs to check.
  function joined(node: NodeEntry): void {
    // Those of other hubs are theirs to check.
    if (node.hub !== undefined) return;
    // Who leaves and comes back is asked neither more often nor less.
    if (due.has(node.nodeId)) return;
    const newcomer = node.announcement.models.some(
      (offer) => reputation.standingOf(node.nodeId, modelKey(offer)).newcomer,
    );
    due.set(node.nodeId, { atMs: newcomer ? soon() : later(), again: null });
  }
  for (const node of registry.nodes()) joined(node);
  const unsubscribe = registry.onChange(({ type, node }) => {
    if (type === "connected") joined(node);
  });

  function tick(): void {
    for (const [nodeId, { atMs, again }] of due) {
      if (stops.size >= CANARIES_AT_ONCE) return;
      if (nowMs() < atMs) continue;
      const node = registry.get(nodeId);
      if (!node) due.delete(nodeId);
      if (!node || node.running > 0 || node.draining) continue;
      const offer = chosen(node, again, random);
      const release = offer && registry.takeSlot(offer);
      due.set(nodeId, { atMs: later(), again: null });
      if (offer && release) void check(offer, release, again !== null);
    }
  }

  async function check(offer: Offer, release: () => void, second: boolean): Promise<void> {
    const stop = new AbortController();
    stops.add(stop);
    try {
      const verdict = await ask(offer, options, stop.signal);
      if (stop.signal.aborted || verdict === "none") return;
      const { nodeId } = offer.node;
      const model = modelKey(offer.offer);
      const audit = (pass: boolean): ReputationFact => ({ kind: "audit", pass, reason: "canary" });
      if (verdict === "passed") reputation.record(nodeId, model, audit(true));
      else if (verdict !== "failed") reputation.record(nodeId, model, verdict.wrong);
      else if (second) reputation.record(nodeId, model, audit(false));
      else due.set(nodeId, { atMs: soon(), again: model });
    } finally {
      stops.delete(stop);
      release();
    }
  }

  const ticking = setInterval(tick, TICK_MS).unref();
  return () => {
    clearInterval(ticking);
    unsubscribe();
    for (const stop of stops) stop.abort();
  };
}

function chosen(node: NodeEntry, again: string | null, random: () => number): Offer | null {
  const { models } = node.announcement;
  const offer =
    models.find((one) => again !== null && modelKey(one) === again) ??
    models[Math.floor(random() * models.length)];
  return offer ? { node, offer } : null;
}

/** Never rejects. */
function ask(
  { node, offer }: Offer,
  { dispatcher, random }: Pick<CanaryOptions, "dispatcher" | "random">,
  signal: AbortSignal,
): Promise<Verdict> {
  const { kind, body } = promptFor(offer, random);
  const attempt = newAttemptId();
  const delivered = { bytes: 0, deltas: 0, vectors: 0 };
  return new Promise((resolve) => {
    const end = (verdict: Verdict) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      handle?.forget();
      resolve(verdict);
    };
    const cancel = (verdict: Verdict) => {
      handle?.cancel("canary");
      end(verdict);
    };
    const onAbort = () => cancel("none");
    const timer = setTimeout(() => cancel("failed"), CANARY_TIMEOUT_MS);
    signal.addEventListener("abort", onAbort, { once: true });
    const start = { attempt, kind, model: offer.model, body, deadline_ms: CANARY_TIMEOUT_MS };
    const handle = dispatcher.start(node.nodeId, start, {
      delta(kind, payload) {
        delivered.deltas++;
        if (kind === deltaKind.embeddings) delivered.vectors++;
        else delivered.bytes += payload.byteLength;
      },
      done(_finish, receipt) {
        const nodeKey = dispatcher.nodeKey(node.nodeId);
        void checkedUsage(receipt, { attemptId: attempt, nodeKey }).then((claimed) => {
          const [wrong] = receiptFacts({ receipt, claimed, delivered, choices: 1, offer });
          if (wrong) end({ wrong });
          else end(delivered.deltas > 0 ? "passed" : "failed");
        });
      },
      failed: (code) => end(NO_VERDICT.has(code) ? "none" : "failed"),
    });
    if (!handle) end("none");
  });
}

const NO_VERDICT: ReadonlySet<string> = new Set(["busy", "draining", "cancelled", "node_lost"]);

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
