/**
 * Whether a conversation had better wait for the node that holds its cache than go on elsewhere: where that node is
 * only busy, and will probably have a slot sooner than another has read the conversation again. Without this, load makes
 * conversations stray, straying makes every node read more, and that makes more load (docs/matching.md has the figures). Pure.
 */
import { meaningOf, meantOf } from "./identity.ts";
import type { Measure } from "./measures.ts";
import { unmet, type Wish } from "./needs.ts";
import type { Offer } from "./registry.ts";
import { PREFILL_TOKENS_PER_S } from "./score.ts";
import type { MarketState } from "./state.ts";

/** Longest wait for a warm cache, however much it would save. */
export const WARM_WAIT_MS_MAX = 2_000;

/**
 * Reading a token again is worth waiting so many times as long as an idle node takes for it: where one is busy others
 * are, too, and read slower, and what they read keeps them from others' prompts. Measured in the simulation.
 */
export const WORTH_OF_READING = 3;

export interface Patience {
  nodeId: string;
  /** The longest that the wait is worth. */
  waitMs: number;
}

/** `ahead`: how many wait for that node alone. Null where the wish should be matched as it is. */
export function patienceOf(
  offers: readonly Offer[],
  wish: Wish,
  market: MarketState,
  ahead: (nodeId: string) => number,
): Patience | null {
  const { warm, nowMs } = market;
  if (!warm || wish.steering?.order || wish.steering?.sort) return null;
  const meaning = meaningOf(offers, wish, market);
  const offer = (meaning ? meantOf(offers, meaning, wish) : offers).find(
    ({ node }) => node.nodeId === warm.nodeId,
  );
  if (!offer || offer.node.draining || unmet(offer, wish, market.standingOf(offer)) !== "busy") return null;
  const readingMs = (warm.tokens / PREFILL_TOKENS_PER_S) * 1000;
  const waitMs = Math.min(WORTH_OF_READING * readingMs, WARM_WAIT_MS_MAX);
  const expectedMs = endingIn(market.measureOf(offer), ahead(warm.nodeId), nowMs);
  return expectedMs < waitMs ? { nodeId: warm.nodeId, waitMs } : null;
}

/** Milliseconds until as many attempts have ended as wait already, and one more. */
function endingIn({ running }: Measure, ahead: number, nowMs: number): number {
  const left = running.map(({ sinceMs, expectedMs }) => Math.max(0, sinceMs + expectedMs - nowMs));
  return left.sort((a, b) => a - b)[ahead] ?? Number.POSITIVE_INFINITY;
}
