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
import type { NodeEntry, Offer, Registry } from "../market/registry.ts";
import { modelKey } from "./attempt-facts.ts";
import { askCanary, type CanaryDeps } from "./canary-attempt.ts";
import type { ReputationFact } from "./events.ts";
import type { Reputation } from "./reputation.ts";

/** Of all nodes together. */
export const CANARIES_AT_ONCE = 8;
/** A newcomer's first, and the second after a failure, come within this time. */
const SOON_MS = 30_000;
const TICK_MS = 250;

export interface CanaryOptions extends CanaryDeps {
  registry: Registry;
  reputation: Pick<Reputation, "record" | "standingOf">;
  /** 0 turns it off. */
  intervalMs: number;
}

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
      const { verdict } = await askCanary(offer, options, stop.signal);
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
