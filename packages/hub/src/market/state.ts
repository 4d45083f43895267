/** What matching knows of offers beyond what they say. */
import { type Measure, UNMEASURED } from "./measures.ts";
import type { Standing } from "./needs.ts";
import type { Offer } from "./registry.ts";

/** All of it is only read. */
export interface MarketState {
  nowMs: number;
  measureOf(offer: Offer): Measure;
  standingOf(offer: Offer): Standing;
  /** The share of the model's recent jobs that the newcomers of a node, owner or address block would have with this one. */
  shareWithNext(model: string, who: string): number;
  /** The node that holds this conversation's cache, and how many tokens of it. */
  warm: { nodeId: string; tokens: number } | null;
}

export const NEUTRAL_STANDING: Standing = { score: 80, newcomer: false };
export const NEUTRAL_MARKET: MarketState = {
  nowMs: 0,
  measureOf: () => UNMEASURED,
  standingOf: () => NEUTRAL_STANDING,
  shareWithNext: () => 0,
  warm: null,
};
