/** What a consumer asks of the market beyond its model: the `provider` object, checked. All parts may be absent. */
import type { PriceCapWire } from "@gfe/protocol";
import type { Offer } from "./registry.ts";

export type SortBy = "price" | "latency" | "throughput";

export interface Steering {
  /** Decides alone, instead of the score. */
  sort?: SortBy | undefined;
  /** Tried in this order, before all others. Nodes are named as in `only`. */
  order?: readonly string[] | undefined;
  /** Node ids, node names or provider ids. */
  only?: readonly string[] | undefined;
  ignore?: readonly string[] | undefined;
  /** False: nobody but those in `order`. */
  allowFallbacks?: boolean | undefined;
  quantisations?: readonly string[] | undefined;
  /** Only nodes that honour every parameter, those too that change the answer little. */
  requireParameters?: boolean | undefined;
  /** Any model of the name will do, and a job may go on with another. */
  anyQuantisation?: boolean | undefined;
  regions?: readonly string[] | undefined;
  /** "deny": only nodes that say they keep nothing. */
  dataCollection?: "allow" | "deny" | undefined;
  /** 0 to 100. */
  minReputation?: number | undefined;
  maxPrice?: PriceCapWire | undefined;
  /** A second node may be asked where the first is slow to begin. */
  hedge?: boolean | undefined;
}

/** Whether a name means this offer's node or its provider. */
export const isNamed = ({ node }: Offer, name: string): boolean =>
  name === node.nodeId || name === node.ownerId || name === node.announcement.name;

/** Suffixes of a model's name that steer; only where no model has that very name. */
const SUFFIXES: Readonly<Record<string, SortBy>> = { ":cheap": "price", ":fast": "throughput" };

/** The model that a name means, and how its suffix sorts. `isOffered`: whether a model or alias of that name is offered. */
export function resolveModel(
  name: string,
  isOffered: (name: string) => boolean,
): { model: string; sort?: SortBy } {
  if (isOffered(name)) return { model: name };
  for (const [suffix, sort] of Object.entries(SUFFIXES)) {
    if (name.length > suffix.length && name.endsWith(suffix))
      return { model: name.slice(0, -suffix.length), sort };
  }
  return { model: name };
}
