/** What goes wrong in a simulation, and when: all of it drawn before it begins. */
import type { Random } from "../random.ts";
import type { Clock } from "./clock.ts";
import { Owner } from "./clock.ts";
import type { DatabaseFaults } from "./database.ts";
import type { Network, Place } from "./network.ts";
import type { Records } from "./records.ts";
import type { SimNode } from "./stage.ts";

const KINDS = {
  "the hub is killed": 3,
  "a node is killed": 6,
  "a place is cut off": 6,
  "connections are reset": 6,
  "the database is away": 2,
  "the database loses answers": 3,
  "the database refuses": 2,
} as const;

export interface Scene {
  clock: Clock;
  network: Network;
  records: Records;
  random: Random;
  nodes: readonly SimNode[];
  places: readonly Place[];
  faults: DatabaseFaults;
  crashHub(): void;
}

/** Enters `count` faults within the next `spanMs`; each is mended at the latest `mendMs` after it began. */
export function enterChaos(
  { clock, network, records, random, nodes, places, faults, crashHub }: Scene,
  count: number,
  spanMs: number,
): void {
  const owner = new Owner("chaos");
  const later = (ms: number, run: () => void) => void clock.after(ms, run, owner);
  for (let i = 0; i < count; i++) {
    const kind = random.weighted(KINDS);
    const atMs = random.int(0, spanMs);
    const forMs = random.chance(0.2) ? random.int(1_000, 45_000) : random.int(50, 4_000);
    const node = random.pick(nodes);
    const place = random.pick(places);
    const rate = random.next() * 0.5;
    later(atMs, () => {
      records.happen(kind);
      switch (kind) {
        case "the hub is killed":
          return crashHub();
        case "a node is killed":
          node.crash();
          return later(forMs, () => node.start());
        case "a place is cut off":
          records.note(`${place.name} for ${forMs} ms`);
          network.cutOff(place);
          return later(forMs, () => network.mend(place));
        case "connections are reset":
          records.note(`those of ${place.name}`);
          return network.reset(place);
        case "the database is away":
          faults.away = true;
          return later(Math.min(forMs, 8_000), () => {
            faults.away = false;
          });
        case "the database loses answers":
          faults.unanswered = rate;
          return later(forMs, () => {
            faults.unanswered = 0;
          });
        case "the database refuses":
          faults.refused = rate;
          return later(forMs, () => {
            faults.refused = 0;
          });
      }
    });
  }
}
