/** The market's memory around match.ts: measures, affinity and traffic, fed by what is chosen and how it ends. */
import { createAffinity } from "./affinity.ts";
import {
  type MarketState,
  type MatchResult,
  match,
  NEUTRAL_STANDING,
  type Standing,
  type Wish,
} from "./match.ts";
import { type AttemptMeasure, createMeasures, type Measures } from "./measures.ts";
import { type Patience, patienceOf } from "./patience.ts";
import type { Offer } from "./registry.ts";
import { createTraffic } from "./traffic.ts";
import type { Turnout } from "./turnout.ts";

/** Prefix part below which a warm cache is not worth a detour (SGLang's router). */
const WARM_PART_MIN = 0.3;

export interface Matcher {
  /** Chooses, and counts the choice: the caller takes the slot at once. Parameters are those of `match`. */
  choose(offers: readonly Offer[], wish: Wish, among?: readonly Offer[]): MatchResult;
  /** Whether to wait for one node instead: see patience.ts. */
  patience(offers: readonly Offer[], wish: Wish, ahead: (nodeId: string) => number): Patience | null;
  /** An attempt begins; call the result once when it has ended, with null where it says nothing of the node. */
  began(offer: Offer, outputTokens: number): (sample: AttemptMeasure | null) => void;
  /** What matching would see, for explaining. */
  state(wish: Wish): MarketState;
}

export interface MatcherOptions {
  random: () => number;
  nowMs: () => number;
  standingOf?: ((offer: Offer) => Standing) | undefined;
  /** Told of every choice, for providers who ask why they were not it. */
  turnout?: Pick<Turnout, "matched"> | undefined;
}

export function createMatcher({
  random,
  nowMs,
  standingOf = () => NEUTRAL_STANDING,
  turnout,
}: MatcherOptions): Matcher {
  const measures: Measures = createMeasures();
  const affinity = createAffinity();
  const traffic = createTraffic();

  function state(wish: Wish): MarketState {
    const found = wish.prefixes ? affinity.find(wish.prefixes) : null;
    const whole = wish.prefixes?.at(-1)?.tokens ?? 0;
    return {
      nowMs: nowMs(),
      measureOf: measures.of,
      standingOf,
      shareWithNext: traffic.shareWithNext,
      warm: found && found.tokens >= WARM_PART_MIN * whole ? found : null,
    };
  }

  return {
    state,
    choose(offers, wish, among) {
      const market = state(wish);
      const result = match(offers, wish, random, market, among);
      const isFirst = !among && wish.excluded.size === 0 && !wish.askedElsewhere;
      turnout?.matched(offers, wish, result, market, isFirst);
      if (result.type === "matched") {
        const { node } = result.offer;
        const { newcomer } = standingOf(result.offer);
        const { nodeId, ownerId, addressBlock: block } = node;
        traffic.given(wish.model, newcomer ? [nodeId, ownerId, ...(block === undefined ? [] : [block])] : []);
        if (wish.prefixes) affinity.remember(wish.prefixes, node.nodeId);
      }
      return result;
    },
    patience: (offers, wish, ahead) => (wish.prefixes ? patienceOf(offers, wish, state(wish), ahead) : null),
    began(offer, outputTokens) {
      const end = measures.begin(offer, outputTokens, nowMs());
      return (sample) => end(sample, nowMs());
    },
  };
}
