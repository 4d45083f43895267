/** What is killed when, drawn from a seed before anything starts: the same seed makes the same plan. */
import type { Random } from "../random.ts";

export const VICTIMS = ["hub A", "hub B", "agent", "PostgreSQL", "Redis"] as const;
export type Victim = (typeof VICTIMS)[number];

export interface Kill {
  /** Since the beginning of the load. */
  atMs: number;
  victim: Victim;
  /** Which agent, where it is one. */
  agent: number;
  /** How long it stays away before it is started again. */
  awayMs: number;
}

const WEIGHTS: Record<Victim, number> = { "hub A": 2, "hub B": 2, agent: 4, PostgreSQL: 2, Redis: 2 };
const BETWEEN_MS = { min: 1_500, max: 4_500 };
const AWAY_MS = { min: 50, max: 2_000 };

/** Kills from the second second to the end of `lengthMs`: each kind once in a drawn order, then by weight. */
export function planKills(random: Random, lengthMs: number, agents: number): Kill[] {
  const kills: Kill[] = [];
  const first: Victim[] = [...VICTIMS];
  for (let atMs = 2_000; atMs < lengthMs; atMs += random.int(BETWEEN_MS.min, BETWEEN_MS.max)) {
    const due = first.length > 0 ? first.splice(random.int(0, first.length - 1), 1)[0]! : null;
    kills.push({
      atMs,
      victim: due ?? random.weighted(WEIGHTS),
      agent: random.int(0, agents - 1),
      awayMs: random.int(AWAY_MS.min, AWAY_MS.max),
    });
  }
  return kills;
}
