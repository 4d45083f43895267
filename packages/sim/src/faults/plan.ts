/** What is killed or frozen when, drawn from a seed before anything starts: the same seed makes the same plan. */
import type { Random } from "../random.ts";

export const VICTIMS = ["hub A", "hub B", "agent", "PostgreSQL", "Redis"] as const;
export type Victim = (typeof VICTIMS)[number];

export interface Blow {
  /** A frozen one answers nothing and closes nothing until it goes on, as a machine that is paused. */
  how: "kill" | "freeze";
  /** Since the beginning of the load. */
  atMs: number;
  victim: Victim;
  /** Which agent, where it is one. */
  agent: number;
  /** How long it stays away before it is started again, or goes on. */
  awayMs: number;
}

const WEIGHTS: Record<Victim, number> = { "hub A": 2, "hub B": 2, agent: 4, PostgreSQL: 2, Redis: 2 };
const BETWEEN_MS = { min: 1_500, max: 4_500 };
const AWAY_MS = { kill: { min: 50, max: 2_000 }, freeze: { min: 200, max: 6_000 } };
const FREEZE_CHANCE = 0.4;

/**
 * Blows from the second second to the end of `lengthMs`: each victim is killed once in a drawn order, then by weight they
 * are killed or frozen.
 */
export function planBlows(random: Random, lengthMs: number, agents: number): Blow[] {
  const blows: Blow[] = [];
  const first: Victim[] = [...VICTIMS];
  for (let atMs = 2_000; atMs < lengthMs; atMs += random.int(BETWEEN_MS.min, BETWEEN_MS.max)) {
    const due = first.length > 0 ? first.splice(random.int(0, first.length - 1), 1)[0]! : null;
    const how = due === null && random.chance(FREEZE_CHANCE) ? "freeze" : "kill";
    blows.push({
      ...{ how, atMs, victim: due ?? random.weighted(WEIGHTS), agent: random.int(0, agents - 1) },
      awayMs: random.int(AWAY_MS[how].min, AWAY_MS[how].max),
    });
  }
  return blows;
}
