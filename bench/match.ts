/** Time to match one wish among so many offers, against filtering and sorting them all in the same run. */
import { createMatcher, type Offer, type Wish } from "../packages/hub/src/testing/market.ts";
import { median, printTable, quantile, rounded } from "./lib/statistics.ts";

const SIZES = [100, 1_000, 10_000];
const ROUNDS = 3_000;
const WARM_UP = 500;

export async function run({ json }: { json: boolean }): Promise<void> {
  const figures: Record<string, number> = {};
  const rows: (string | number)[][] = [];
  for (const size of SIZES) {
    const offers = Array.from({ length: size }, (_, index) => offerOf(index));
    const matcher = createMatcher({ random: Math.random, nowMs: () => performance.now() });
    for (const offer of offers)
      matcher.began(offer, 100)({ ok: true, ttftMs: 200, durationMs: 2200, outputTokens: 100 });
    const ours: number[] = [];
    const sorting: number[] = [];
    // Turn by turn: neighbours in time see the same machine.
    for (let round = -WARM_UP; round < ROUNDS; round++) {
      const oursUs = timeUs(() => matcher.choose(offers, wish));
      const sortingUs = round % 10 === 0 ? timeUs(() => filterAndSort(offers, wish)) : null;
      if (round < 0) continue;
      ours.push(oursUs);
      if (sortingUs !== null) sorting.push(sortingUs);
    }
    const row = { median: median(ours), p99: quantile(ours, 0.99), sorting: median(sorting) };
    rows.push([
      `${size.toLocaleString("en")} offers`,
      row.median,
      row.p99,
      row.sorting,
      row.sorting / row.median,
    ]);
    figures[`match_us_${size}`] = rounded(row.median);
    figures[`match_p99_us_${size}`] = rounded(row.p99);
    figures[`times_faster_than_sorting_${size}`] = rounded(row.sorting / row.median);
  }
  printTable(["µs to match among", "median", "p99", "filter + sort", "times faster"], rows);
  console.log(`\n10,000 offers: ${figures.match_us_10000} µs (goal ≤ 50)`);
  if (json) console.log(JSON.stringify(figures));
}

function timeUs(step: () => unknown): number {
  const from = performance.now();
  step();
  return (performance.now() - from) * 1000;
}

const wish: Wish = {
  model: "m",
  consumerId: "consumer",
  needs: ["chat"],
  contextTokensMin: 1000,
  inputTokens: 1000,
  outputTokens: 200,
  excluded: new Set(),
};

/** The plain way: those that can, by price. */
const filterAndSort = (offers: readonly Offer[], { consumerId, needs, contextTokensMin }: Wish) =>
  offers
    .filter(
      ({ node, offer }) =>
        node.ownerId !== consumerId &&
        needs.every((need) => (offer.capabilities as string[]).includes(need)) &&
        offer.context_length >= contextTokensMin &&
        node.running < node.announcement.slots,
    )
    .sort((a, b) => Number(a.offer.price.per_million_output) - Number(b.offer.price.per_million_output))[0];

/** One in ten is busy, and prices differ. */
function offerOf(index: number): Offer {
  const offer = {
    model: "m",
    context_length: 8192,
    capabilities: ["chat" as const, "tools" as const],
    slots: 4,
    price: {
      per_request: "0",
      per_million_input: String(100_000 + ((index * 7919) % 1000) * 100),
      per_million_output: String(1_000_000 + ((index * 7919) % 1000) * 1000),
    },
    engine: "scripted" as const,
  };
  return {
    offer,
    node: {
      nodeId: `node${index}`,
      ownerId: `owner${index}`,
      agentVersion: "0",
      announcement: { name: `node${index}`, gpus: [], slots: 4, models: [offer] },
      running: index % 10 === 0 ? 4 : index % 3,
      runningByModel: new Map(),
      draining: false,
      connectedAt: new Date(0),
    },
  };
}
