/** What everybody in a simulation shares. */
import type { KeyPair, PriceWire } from "@gfe/protocol";
import type { Random } from "../random.ts";
import type { Clock } from "./clock.ts";
import type { Network, Place } from "./network.ts";
import type { Records } from "./records.ts";

export const MODELS = ["large", "small"] as const;
/** Of every node, so that any may go on with another's answer. */
export const MODEL_DIGEST = `sha256:${"5".repeat(64)}`;

export interface Stage {
  clock: Clock;
  network: Network;
  records: Records;
}

export interface NodeSpec {
  name: string;
  /** Who owns it. */
  provider: string;
  token: string;
  model: string;
  price: PriceWire;
  slots: number;
  place: Place;
  keys: KeyPair;
  random: Random;
}

export interface SimNode {
  readonly place: Place;
  start(): void;
  /** As if its process were killed; `quietly` where that is no fault of the simulation but its end. */
  crash(quietly?: boolean): void;
}
