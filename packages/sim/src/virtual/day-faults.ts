/** What goes wrong on a provider's day: some of it in each hour, all of it mended some minutes before the hour ends. */
import type { Random } from "../random.ts";
import { Owner } from "./clock.ts";
import { MOODS } from "./day-engine.ts";
import type { DayNode } from "./day-node.ts";
import type { HubProcess } from "./hub-process.ts";
import type { Place } from "./network.ts";
import type { Stage } from "./stage.ts";

const KINDS = {
  "the hub is killed": 3,
  "a connection is half open": 3,
  "connections are reset": 3,
  "the network is slow": 2,
  "an engine has a bad time": 8,
  "a machine sleeps": 2,
  "a wall clock is set": 2,
  "a disk takes nothing": 2,
  "an agent is killed": 2,
} as const;
export type DayFault = keyof typeof KINDS;
export const DAY_FAULTS = Object.keys(KINDS) as DayFault[];

const MINUTE_MS = 60_000;
export const HOUR_MS = 60 * MINUTE_MS;
/** Faults begin in the first part of each hour, and are over by this. */
export const MENDED_BY_MS = 40 * MINUTE_MS;
const FAULTS_AN_HOUR = { min: 3, max: 8 };
/** One machine sleeps through these hours. */
export const NIGHT = { from: 9, hours: 5 } as const;
const DAYS_OFF = { min: -400, max: 4_000 };

export interface DayScene {
  stage: Stage;
  random: Random;
  nodes: readonly DayNode[];
  callers: readonly Place[];
  hub: HubProcess;
}

/** Enters the faults of `hours`. */
export function enterDay({ stage, random, nodes, callers, hub }: DayScene, hours: number): void {
  const owner = new Owner("chaos");
  const { clock, network, records } = stage;
  const at = (ms: number, run: () => void) => void clock.after(ms, run, owner);
  if (hours > NIGHT.from + NIGHT.hours) {
    const { machine } = nodes.at(-1)!;
    const how = random.pick(["frozen", "suspended"] as const);
    at(NIGHT.from * HOUR_MS - MINUTE_MS, () => {
      records.happen("a machine sleeps");
      machine.sleep(how);
    });
    at((NIGHT.from + NIGHT.hours) * HOUR_MS - MENDED_BY_MS, () => machine.wake());
  }
  const isNight = (hour: number) => hour >= NIGHT.from && hour < NIGHT.from + NIGHT.hours;
  for (let hour = 0; hour < hours; hour++)
    for (let left = random.int(FAULTS_AN_HOUR.min, FAULTS_AN_HOUR.max); left > 0; left--) {
      const kind = random.weighted(KINDS);
      const fromMs = random.int(0, MENDED_BY_MS - MINUTE_MS);
      const mostMs = MENDED_BY_MS - fromMs;
      const forMs = Math.min(mostMs, random.int(1_000, random.pick([5_000, 3 * MINUTE_MS, MENDED_BY_MS])));
      const node = random.pick(isNight(hour) ? nodes.slice(0, -1) : nodes);
      const place = random.pick([node.place, ...callers]);
      const engine = random.int(0, node.engines.length - 1);
      const mood = random.pick(MOODS.slice(1));
      const skewMs = random.int(DAYS_OFF.min, DAYS_OFF.max) * 24 * HOUR_MS;
      const how = random.pick(["frozen", "suspended"] as const);
      const disk = random.pick(["full", "read-only"] as const);
      const begin = (run: () => void, mend: () => void = () => {}) =>
        at(hour * HOUR_MS + fromMs, () => {
          if (node.machine.isAsleep && kind !== "the hub is killed") return;
          records.happen(kind);
          records.note(`${node.spec.name}, ${place.name}, for ${forMs} ms`);
          run();
          at(forMs, mend);
        });
      switch (kind) {
        case "the hub is killed":
          begin(() => hub.crash(forMs));
          break;
        case "a connection is half open":
          begin(
            () => network.cutOff(place),
            () => !(place === node.place && node.machine.isAsleep) && network.mend(place),
          );
          break;
        case "connections are reset":
          begin(() => network.reset(place));
          break;
        case "the network is slow":
          begin(
            () => Object.assign(place.latencyMs, { max: SLOW_MS }),
            () => Object.assign(place.latencyMs, { max: 2 * place.latencyMs.min }),
          );
          break;
        case "an engine has a bad time":
          begin(
            () => {
              records.note(`${node.spec.name}'s engine ${engine} ${mood}`);
              node.engines[engine]!.mood = mood;
            },
            () => {
              node.engines[engine]!.mood = "fine";
            },
          );
          break;
        case "a machine sleeps":
          begin(
            () => node.machine.sleep(how),
            () => node.machine.wake(),
          );
          break;
        case "a wall clock is set":
          begin(() => node.machine.setWall(skewMs));
          break;
        case "a disk takes nothing":
          begin(
            () => {
              node.machine.disk = disk;
            },
            () => {
              node.machine.disk = "fine";
            },
          );
          break;
        case "an agent is killed":
          begin(
            () => node.crash(),
            () => node.start(),
          );
      }
    }
}

/** There and back it is less than a hub waits for the receipt of who was too slow. */
const SLOW_MS = 700;
