/**
 * A test request that a provider asks for: the way of a job through a slot, the link, the agent and its engine, unpaid,
 * with what went wrong in plain words. It tells the reputation nothing: nobody earns a good name by asking for it.
 */
import { type CanaryReport, GfeError } from "@gfe/protocol";
import type { Need, Wish } from "../market/needs.ts";
import type { Offer, Registry } from "../market/registry.ts";
import { CANARIES_AT_ONCE } from "./canary.ts";
import { askCanary, type CanaryAnswer, type CanaryDeps } from "./canary-attempt.ts";

/** A node is tested at most once in so long. */
export const DEMANDED_EVERY_MS = 10_000;
/** Nodes whose last test is remembered; above it all are forgotten. */
const NODES_MAX = 10_000;

export interface CanaryOnDemandOptions extends CanaryDeps {
  registry: Registry;
  /** Why an offer would not serve a wish now; null where it would. */
  unmet(offer: Offer, wish: Wish): Need | null;
}

/**
 * Throws GfeError: not_found where the node is not connected or has no such model, rate_limited where it was tested a
 * moment ago, no_slot where every slot is taken or too many tests run.
 */
export type CanaryOnDemand = (nodeId: string, model: string, signal: AbortSignal) => Promise<CanaryReport>;

export function createCanaryOnDemand(options: CanaryOnDemandOptions): CanaryOnDemand {
  const { registry, nowMs, unmet } = options;
  const testedAtMs = new Map<string, number>();
  let running = 0;

  return async (nodeId, model, signal) => {
    const node = registry.get(nodeId);
    if (!node) throw new GfeError("not_found", "This node is not connected: `gfe doctor` on it says why");
    const offer = node.announcement.models.find((one) => one.model === model);
    if (!offer) throw new GfeError("not_found", `This node does not offer ${model}`, { param: "model" });
    const waitMs = (testedAtMs.get(nodeId) ?? Number.NEGATIVE_INFINITY) + DEMANDED_EVERY_MS - nowMs();
    const retryAfterS = Math.ceil(waitMs / 1000);
    if (waitMs > 0)
      throw new GfeError("rate_limited", "This node was tested a moment ago", { retryAfterS, param: "id" });
    if (running >= CANARIES_AT_ONCE)
      throw new GfeError("no_slot", "Other nodes are being tested", { retryAfterS: 5 });
    const one = { node, offer };
    const need = unmet(one, wishFor(one));
    const release = registry.takeSlot(one);
    if (!release)
      throw new GfeError("no_slot", "Every slot of this node is taken: it is serving", { retryAfterS: 5 });
    if (testedAtMs.size >= NODES_MAX) testedAtMs.clear();
    testedAtMs.set(nodeId, nowMs());
    running++;
    try {
      return report(model, need, await askCanary(one, options, signal));
    } finally {
      running--;
      release();
    }
  };
}

/** What almost every consumer asks. */
function wishFor({ offer }: Offer): Wish {
  const kinds = ["chat", "completion", "embedding"] as const;
  return {
    model: offer.model,
    consumerId: "",
    needs: kinds.filter((kind) => offer.capabilities.includes(kind)).slice(0, 1),
    contextTokensMin: 64,
    inputTokens: 32,
    outputTokens: 32,
    excluded: new Set(),
  };
}

const FAILED: Readonly<Record<string, { words: string; cure: string }>> = {
  engine_error: {
    words: "the engine answered with an error",
    cure: "Look at the engine's log; often the model does not fit into memory.",
  },
  engine_refused: { words: "the engine refused the request", cure: "Look at the engine's log." },
  context_length_exceeded: {
    words: "the engine says that a short prompt is too long for its context",
    cure: "Start the engine with a longer context.",
  },
  unsupported: { words: "the engine cannot do what the model is offered for", cure: "Update the engine." },
  busy: { words: "the agent says that it is busy", cure: "Try again when its answers have ended." },
  draining: { words: "the agent is paused or about to leave", cure: "Resume it: `gfe resume`." },
  timeout: { words: "the engine did not answer in time", cure: "Look whether it still loads the model." },
  cancelled: { words: "the agent ended it", cure: "Look at the agent's log: `gfe logs`." },
  node_lost: { words: "the connection to the node was lost", cure: "`gfe doctor` on the node." },
  silent: {
    words: "nothing ended within a minute",
    cure: "The engine hangs, or loads the model for very long: restart it.",
  },
};

function report(model: string, need: Need | null, answer: CanaryAnswer): CanaryReport {
  const { verdict, failure, firstTokenMs, totalMs, outputTokens } = answer;
  const passed = verdict === "passed";
  return {
    ...{ model, passed, ...saidOf(verdict, failure) },
    ...{ first_token_ms: firstTokenMs, total_ms: totalMs, output_tokens: outputTokens, unmet: need },
  };
}

function saidOf(
  verdict: CanaryAnswer["verdict"],
  failure: CanaryAnswer["failure"],
): { words: string; cure: string } {
  if (verdict === "passed") return { words: "it answered as it should", cure: "" };
  if (typeof verdict === "object")
    return {
      words: "its signed receipt does not fit what it sent, or what it offers",
      cure: "Update the agent; pull the model anew if its file changed.",
    };
  if (failure) return FAILED[failure.code] ?? { words: failure.code, cure: "" };
  return {
    words: "it answered nothing",
    cure: "Ask the engine the same: it says nothing either, or loads the wrong file.",
  };
}
