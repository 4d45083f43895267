/**
 * Waiting for a slot. A wish that no free offer can serve waits in order of arrival; every slot that comes free, and
 * every node that connects or announces, is offered to the waiting first. Because of that, a free slot seen by a
 * newcomer is one that nobody waiting could use: newcomers never overtake.
 */
import { GfeError } from "@gfe/protocol";
import { type MatchResult, match, type Wish } from "../market/match.ts";
import { capText } from "../market/price-cap.ts";
import type { NodeEntry, Offer, Registry } from "../market/registry.ts";
import { stopReason } from "./stop.ts";

export interface Lease {
  offer: Offer;
  /** Gives the slot back; more than once is harmless. */
  release(): void;
}

export interface SlotQueue {
  /** Throws GfeError: model_not_found, no_own_node, unsupported_parameter, context_length_exceeded, over_price_cap, no_slot, overloaded, cancelled, shutting_down. */
  acquire(wish: Wish, waitMs: number, signal: AbortSignal): Promise<Lease>;
  /** A slot now or null, without waiting: for fail-over. */
  tryAcquire(wish: Wish): Lease | null;
  length(): number;
}

interface Waiter {
  wish: Wish;
  grant(lease: Lease): void;
}

export function createSlotQueue(registry: Registry, waitersMax: number, random: () => number): SlotQueue {
  const waitersByModel = new Map<string, Set<Waiter>>();
  let length = 0;

  function attempt(wish: Wish): Lease | MatchResult {
    const result = match(registry.offers(wish.model), wish, random);
    if (result.type !== "matched") return result;
    const release = registry.takeSlot(result.offer);
    return release ? { offer: result.offer, release } : { type: "busy" };
  }

  function leave(waiter: Waiter): void {
    const waiters = waitersByModel.get(waiter.wish.model);
    if (!waiters?.delete(waiter)) return;
    length--;
    if (waiters.size === 0) waitersByModel.delete(waiter.wish.model);
  }

  function offerTo(node: NodeEntry): void {
    for (const { model } of node.announcement.models) {
      for (const waiter of waitersByModel.get(model) ?? []) {
        if (node.draining || node.running >= node.announcement.slots) return;
        const result = attempt(waiter.wish);
        if ("release" in result) waiter.grant(result);
      }
    }
  }

  registry.onChange((change) => {
    // A slot taken is one that this queue has just given: offering again meanwhile would serve one waiter twice.
    if (length > 0 && change.type !== "disconnected" && change.type !== "slot_taken") offerTo(change.node);
  });

  function wait(wish: Wish, waitMs: number, signal: AbortSignal): Promise<Lease> {
    return new Promise((resolve, reject) => {
      const end = () => {
        leave(waiter);
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
      };
      const onAbort = () => {
        end();
        reject(stopReason(signal));
      };
      const waiter: Waiter = {
        wish,
        grant(lease) {
          end();
          resolve(lease);
        },
      };
      const timer = setTimeout(() => {
        end();
        reject(
          new GfeError("no_slot", `Every node for ${wish.model} stayed busy for ${waitMs} ms`, {
            retryAfterS: 5,
          }),
        );
      }, waitMs);
      signal.addEventListener("abort", onAbort, { once: true });
      const waiters = waitersByModel.get(wish.model) ?? new Set();
      waitersByModel.set(wish.model, waiters.add(waiter));
      length++;
    });
  }

  return {
    async acquire(wish, waitMs, signal) {
      if (signal.aborted) throw stopReason(signal);
      const result = attempt(wish);
      if ("release" in result) return result;
      if (result.type !== "busy") throw toError(result, wish);
      if (length >= waitersMax) throw new GfeError("overloaded", "The queue is full", { retryAfterS: 5 });
      return wait(wish, waitMs, signal);
    },
    tryAcquire(wish) {
      const result = attempt(wish);
      return "release" in result ? result : null;
    },
    length: () => length,
  };
}

/** The parameter that asks for a capability, to name it in the error. */
const parameterOf: Record<string, string> = {
  tools: "tools",
  vision: "messages",
  json_mode: "response_format",
  json_schema: "response_format",
  logprobs: "logprobs",
  reasoning: "reasoning_effort",
  multiple_choices: "n",
  seed: "seed",
};

function toError(result: MatchResult, wish: Wish): GfeError {
  switch (result.type) {
    case "model_not_found":
      return new GfeError("model_not_found", `No node offers the model ${JSON.stringify(wish.model)}`, {
        param: "model",
      });
    case "no_own_node":
      return new GfeError("no_own_node", "Only your own nodes offer this model, and nobody pays itself", {
        param: "model",
      });
    case "incapable": {
      const capability = result.missing[0] ?? "this";
      const detail = { param: parameterOf[capability] ?? "model" };
      return new GfeError(
        "unsupported_parameter",
        `No node that offers ${wish.model} supports ${capability}`,
        detail,
      );
    }
    case "context_too_short":
      return new GfeError(
        "context_length_exceeded",
        `The longest context offered is ${result.contextLengthMax} tokens`,
        { param: "messages" },
      );
    case "over_cap":
      return new GfeError(
        "over_price_cap",
        `No offer of ${wish.model} is within the cap on its price (${capText(result.cap)})`,
        { param: "max_price" },
      );
    case "none_left":
      return new GfeError("no_slot", undefined, { retryAfterS: 5 });
    case "busy":
    case "matched":
      return new GfeError("no_slot", undefined, { retryAfterS: 1 });
  }
}
