/** The same jobs on the same fleet under four policies: what they cost, how long they take, who earns. */
import { createRandom } from "../random.ts";
import { createFleet, type Fleet, type Policy, type SimNode } from "./fleet.ts";

export const POLICIES: readonly Policy[] = ["ours", "random", "cheapest", "least_loaded"];
/** Of all slots, how many are in use on average. */
const UTILISATION = 0.5;
const INPUT_TOKENS = [20, 2000] as const;
const OUTPUT_TOKENS = [20, 500] as const;

export interface PolicyFigures {
  policy: Policy;
  meanCostMicro: number;
  ttftP50Ms: number;
  ttftP95Ms: number;
  /** Jain's index of what providers earn for each token a second that they have to offer: 1 is equal. */
  fairness: number;
}

export interface Comparison {
  seed: number;
  nodes: number;
  jobs: number;
  figures: PolicyFigures[];
}

export function compare(options: { seed: number; nodes: number; jobs: number }): Comparison {
  return { ...options, figures: POLICIES.map((policy) => figuresOf(policy, options)) };
}

function figuresOf(
  policy: Policy,
  { seed, nodes, jobs }: { seed: number; nodes: number; jobs: number },
): PolicyFigures {
  const draws = createRandom(seed);
  const plans = draws.fork();
  const fleet = createFleet({ policy, random: draws.fork() });
  let tokensPerS = 0;
  for (let i = 0; i < nodes; i++) {
    const node = randomNode(plans, i);
    tokensPerS += node.slots * node.tokensPerS;
    fleet.join(node);
  }
  const meanOutput = (OUTPUT_TOKENS[0] + OUTPUT_TOKENS[1]) / 2;
  const gapMs = (1000 * meanOutput) / (tokensPerS * UTILISATION);
  let atMs = 0;
  for (let i = 0; i < jobs; i++) {
    atMs += -Math.log(1 - plans.next()) * gapMs;
    fleet.arrive({
      atMs,
      inputTokens: plans.int(...INPUT_TOKENS),
      outputTokens: plans.int(...OUTPUT_TOKENS),
    });
  }
  fleet.events.run();
  return { policy, ...summary(fleet) };
}

/** Prices differ by 10, speeds by 10, and dear is often, not always, fast. */
function randomNode(random: ReturnType<typeof createRandom>, index: number): SimNode {
  const speed = 10 ** random.next();
  const price = speed ** 0.5 * 10 ** (random.next() * 0.5);
  return {
    id: `node${index}`,
    owner: `owner${index}`,
    slots: random.int(1, 8),
    perMillionOutput: Math.round(300_000 * price),
    ttftMs: 1500 / speed,
    tokensPerS: 15 * speed,
  };
}

function summary({ ends, nodes }: Fleet): Omit<PolicyFigures, "policy"> {
  const ttfts = ends.map(({ ttftMs }) => ttftMs).sort((a, b) => a - b);
  const earned = new Map<string, number>();
  let cost = 0;
  for (const { node, costMicro } of ends) {
    cost += costMicro;
    earned.set(node.id, (earned.get(node.id) ?? 0) + costMicro);
  }
  const perCapacity = [...nodes.values()].map(
    ({ id, slots, tokensPerS }) => (earned.get(id) ?? 0) / (slots * tokensPerS),
  );
  return {
    meanCostMicro: cost / ends.length,
    ttftP50Ms: quantile(ttfts, 0.5),
    ttftP95Ms: quantile(ttfts, 0.95),
    fairness: jain(perCapacity),
  };
}

export const quantile = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;

/** (Σx)² / (n·Σx²), after Jain, Chiu and Hawe 1984. */
export function jain(values: readonly number[]): number {
  const sum = values.reduce((total, value) => total + value, 0);
  const squares = values.reduce((total, value) => total + value * value, 0);
  return squares === 0 ? 1 : (sum * sum) / (values.length * squares);
}
