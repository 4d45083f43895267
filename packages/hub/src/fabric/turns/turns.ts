/**
 * One queue for all hubs, so that whose turn it is does not depend on where somebody asked. One hub keeps it: the home
 * (home.ts). What finds no free slot at another hub, or that somebody waits at home for the same, asks there; where the home is
 * lost or leaves it goes to the next one, with the time that is left.
 *
 *   the job's hub (asking.ts)                          the home (keeper.ts)
 *   ask id, wish ────────────────────────────────────► takes a slot, or waits (jobs/slot-queue.ts)
 *                ◄─────────────────── place, place … ──
 *                ◄──────────── turn: a node's slot ─────   or refuse
 *   start with id as its reservation ────────────────► at the node's hub (../relay.ts)
 *   over id, with what was served ───────────────────►   also instead of all that, where its caller leaves
 *
 * A slot of a node that is connected at home is kept until the start claims it. Of a node elsewhere its own hub is the
 * authority: where somebody was quicker there, the job waits again.
 */
import type { Elsewhere, SlotQueue } from "../../jobs/slot-queue.ts";
import type { Registry } from "../../market/registry.ts";
import type { Peers } from "../peers.ts";
import { type Asking, createAsking } from "./asking.ts";
import { createHome } from "./home.ts";
import { createKeeper, type Keeper } from "./keeper.ts";
import { crowdSchema } from "./wire.ts";

export interface Turns extends Elsewhere, Keeper, Pick<Asking, "reservation"> {
  /** The queue of this hub, for when it is the home. */
  attach(queue: SlotQueue): void;
  /** This hub is nobody's home any more. */
  leave(): void;
}

export interface TurnsOptions {
  peers: Peers;
  registry: Registry;
  nowMs: () => number;
}

export function createTurns({ peers, registry, nowMs }: TurnsOptions): Turns {
  let attached: SlotQueue | null = null;
  const queue = () => attached;
  const home = createHome(peers);
  const keeper = createKeeper(peers, queue);
  const asking = createAsking({ peers, registry, home, nowMs, queue });

  /** Models that somebody waits for: here, and at each other hub. */
  const own = new Set<string>();
  const crowds = new Map<string, Set<string>>();
  peers.onJoined((peer) => {
    if (own.size > 0) peers.send(peer, { t: "crowd", models: [...own], waits: true });
  });
  peers.on("crowd", (peer, message) => {
    const told = crowdSchema.safeParse(message).data;
    if (!told) return;
    const crowd = crowds.get(peer) ?? new Set();
    crowds.set(peer, crowd);
    for (const model of told.models)
      if (told.waits) crowd.add(model);
      else crowd.delete(model);
  });
  home.onLost((peer) => void crowds.delete(peer));

  return {
    attach(queue) {
      attached = queue;
    },
    isCrowded: (model) => !home.isHere() && crowds.get(home.id())?.has(model) === true,
    acquire: (wish, waiting, signal) => (home.isHere() ? null : asking.acquire(wish, waiting, signal)),
    changed(model, waits) {
      if (waits) own.add(model);
      else own.delete(model);
      peers.tell({ t: "crowd", models: [model], waits });
    },
    reservation: asking.reservation,
    claim: keeper.claim,
    leave: home.leave,
  };
}
