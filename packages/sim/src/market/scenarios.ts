/** Small worlds in which the promises of matching must hold. */
import { createRandom } from "../random.ts";
import { quantile } from "./compare.ts";
import { createFleet, type Fleet, type SimNode } from "./fleet.ts";

const nodeOf = (id: string, changes: Partial<SimNode> = {}): SimNode => ({
  id,
  owner: `owner of ${id}`,
  slots: 4,
  perMillionOutput: 1_000_000,
  ttftMs: 200,
  tokensPerS: 100,
  ...changes,
});

/** Jobs in a row with random gaps, from `fromMs` to `toMs`. */
function steady(fleet: Fleet, random: ReturnType<typeof createRandom>, jobsPerS: number, toMs: number): void {
  for (let atMs = 0; ; ) {
    atMs += (-Math.log(1 - random.next()) * 1000) / jobsPerS;
    if (atMs > toMs) return;
    fleet.arrive({ atMs, inputTokens: random.int(50, 200), outputTokens: random.int(20, 120) });
  }
}

/** Ten nodes alike; after half a minute one is `factor` times slower. */
export function slowNode(seed: number, factor: number) {
  const random = createRandom(seed);
  const fleet = createFleet({ policy: "ours", random: random.fork() });
  for (let i = 0; i < 10; i++) fleet.join(nodeOf(`node${i}`));
  const slowAtMs = 30_000;
  const endMs = 120_000;
  fleet.events.after(slowAtMs, () => {
    const node = fleet.nodes.get("node3")!;
    node.ttftMs *= factor;
    node.tokensPerS /= factor;
  });
  steady(fleet, random, 15, endMs);
  fleet.events.run();
  const after = fleet.ends.filter(({ beganAtMs }) => beganAtMs >= slowAtMs + 10_000);
  return {
    share: after.filter(({ node }) => node.id === "node3").length / after.length,
    p99TtftMs: quantile(
      after.map(({ ttftMs }) => ttftMs).sort((a, b) => a - b),
      0.99,
    ),
  };
}

export interface ChatLoad {
  chats: number;
  /** From one chat's begin to the next one's, on average. */
  gapMs: number;
  /** Of each message. */
  messageTokens: number;
  /** Whether they wait for the node that holds their cache, where that pays. */
  patient?: boolean;
}
/** The slots are half full; 80 % full where no chat waits for its node. */
export const CHATS: ChatLoad = { chats: 300, gapMs: 600, messageTokens: 60 };
export const CROWDED_CHATS: ChatLoad = { chats: 1_000, gapMs: 490, messageTokens: 60 };

export type ChatFigures = ReturnType<typeof conversations>;

/** Chats of ten turns on eight nodes alike. */
export function conversations(seed: number, { chats, gapMs, messageTokens, patient = true }: ChatLoad) {
  const random = createRandom(seed);
  const fleet = createFleet({ policy: "ours", random: random.fork(), patient });
  for (let i = 0; i < 8; i++) fleet.join(nodeOf(`node${i}`));
  let returned = 0;
  let turns = 0;
  for (let chat = 0; chat < chats; chat++) {
    const prefixes: { hash: string; tokens: number }[] = [];
    const say = (turn: number, atMs: number, last: string | null): void => {
      const before = prefixes.at(-1)?.tokens ?? 0;
      // What the model said and what the consumer asks next; the first message is one alone.
      for (const part of turn === 0 ? [0] : [0, 1])
        prefixes.push({ hash: `${chat}.${turn}.${part}`, tokens: before + messageTokens * (part + 1) });
      fleet.arrive({
        atMs,
        inputTokens: prefixes.at(-1)!.tokens,
        outputTokens: random.int(20, 120),
        prefixes: [...prefixes],
        ended({ node }) {
          if (last !== null) {
            turns++;
            if (node.id === last) returned++;
          }
          if (turn < 9) say(turn + 1, fleet.events.nowMs + 500 + random.next() * 3000, node.id);
        },
      });
    };
    say(0, random.next() * chats * gapMs, null);
  }
  fleet.events.run();
  const ttfts = fleet.ends.map(({ ttftMs }) => ttftMs).sort((a, b) => a - b);
  const counts = [...fleet.nodes.keys()].map((id) => fleet.ends.filter(({ node }) => node.id === id).length);
  const mean = fleet.ends.length / counts.length;
  return {
    returned: returned / turns,
    imbalance: Math.max(...counts) / mean,
    ttftP50Ms: quantile(ttfts, 0.5),
    ttftP95Ms: quantile(ttfts, 0.95),
    /** Of all slots, how many were in use on average while chats were beginning. */
    utilisation: busyShare(fleet, chats * gapMs),
  };
}

/** Fifty new nodes, of one owner or in one address block, and an honest newcomer elsewhere, beside ten known nodes. */
export function crowd(seed: number, together: "owner" | "block") {
  const random = createRandom(seed);
  const fleet = createFleet({
    policy: "ours",
    random: random.fork(),
    standingOf: ({ node }) => ({ score: 80, newcomer: !node.nodeId.startsWith("node") }),
  });
  for (let i = 0; i < 10; i++) fleet.join(nodeOf(`node${i}`));
  const common = together === "owner" ? { owner: "new owner" } : { block: "8.8.8.0/24" };
  for (let i = 0; i < 50; i++) fleet.join(nodeOf(`crowd${i}`, common));
  fleet.join(nodeOf("honest", { block: "9.9.9.0/24" }));
  steady(fleet, random, 15, 400_000);
  fleet.events.run();
  const shareOf = (name: string) =>
    fleet.ends.filter(({ node }) => node.id.startsWith(name)).length / fleet.ends.length;
  return { crowd: shareOf("crowd"), honest: shareOf("honest") };
}

function busyShare({ ends, nodes }: Fleet, untilMs: number): number {
  let busyMs = 0;
  for (const { beganAtMs, durationMs } of ends)
    busyMs += Math.max(0, Math.min(untilMs, beganAtMs + durationMs) - beganAtMs);
  const slots = [...nodes.values()].reduce((sum, node) => sum + node.slots, 0);
  return busyMs / (slots * untilMs);
}

/** Nodes of one new owner beside ten known ones; a newcomer is known after `knownAfter` jobs of its own. */
export function newcomers(seed: number, count: number, knownAfter: number) {
  const random = createRandom(seed);
  const served = new Map<string, number>();
  const fleet = createFleet({
    policy: "ours",
    random: random.fork(),
    onEnd: ({ node }) => served.set(node.id, (served.get(node.id) ?? 0) + 1),
    standingOf: ({ node }) => ({
      score: 80,
      newcomer: node.nodeId.startsWith("new") && (served.get(node.nodeId) ?? 0) < knownAfter,
    }),
  });
  for (let i = 0; i < 10; i++) fleet.join(nodeOf(`node${i}`));
  for (let i = 0; i < count; i++) fleet.join(nodeOf(`new${i}`, { owner: "new owner" }));
  steady(fleet, random, 15, 400_000);
  fleet.events.run();
  const mine = fleet.ends.flatMap(({ node }, index) => (node.id.startsWith("new") ? [index] : []));
  const [from, to] = [mine[mine.length >= 200 ? 100 : 0], mine[199]];
  return {
    /** Of all jobs, those that the newcomers got together. */
    share: mine.length / fleet.ends.length,
    /** Of the jobs between the newcomers' hundredth and two hundredth, those that they got. */
    shareBefore200: from === undefined || to === undefined ? 0 : 99 / (to - from),
  };
}
