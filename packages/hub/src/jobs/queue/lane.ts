import type { Wish } from "../../market/match.ts";

/** Prompts below this many tokens count as equally long when waiters are sorted by what they need. */
const CONTEXT_STEP_MIN = 1024;

/**
 * What a wish asks of a node, as text: waiters with the same can be served by the same nodes. `owns`: the consumer has
 * nodes that offer the model, which are closed to it alone. `pinned`: the node whose slots alone it waits for.
 */
export function laneOf(wish: Wish, owns: boolean, pinned = ""): string {
  const context = Math.max(CONTEXT_STEP_MIN, 2 ** Math.ceil(Math.log2(Math.max(1, wish.contextTokensMin))));
  const needs = {
    ...wish,
    consumerId: owns ? wish.consumerId : "",
    contextTokensMin: context,
    ...{ inputTokens: 0, outputTokens: 0, prefixes: [] },
  };
  return (
    pinned +
    JSON.stringify(needs, (_name, value: unknown) => {
      if (typeof value === "bigint") return String(value);
      return value instanceof Set || value instanceof Map ? [...value] : value;
    })
  );
}
