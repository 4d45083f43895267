/** The market's own functions, for simulations and measurements outside of the hub. */
export { PINNED_FIRST_MS } from "../jobs/queue/tier.ts";
export { createMatcher, type Matcher } from "../market/matcher.ts";
export type { Standing, Wish } from "../market/needs.ts";
export { createRegistry, type Offer, type Registry } from "../market/registry.ts";
