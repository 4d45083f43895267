/** The queue that this hub keeps for all hubs while it is the home: their jobs wait here, and have their slots from here. */
import { GfeError } from "@gfe/protocol";
import type { FirstLease, SlotQueue } from "../../jobs/slot-queue.ts";
import type { Place } from "../../jobs/types.ts";
import type { Peers } from "../peers.ts";
import { askSchema, errorToWire, overSchema, wishFromWire } from "./wire.ts";

/** How long a slot is kept for a job whose start does not come. */
export const RESERVED_MS = 30_000;
/** How long this hub thinks a slot of another hub's node taken that it gave away: by then that hub has told of it. */
export const HANDED_OVER_MS = 100;

const NOTHING = { input_tokens: 0, output_tokens: 0 };

export interface Keeper {
  /** What gives the slot back that was kept for another hub's job; null where none is kept for it on that node. */
  claim(peer: string, id: number, nodeId: string): (() => void) | null;
}

/** A job of another hub, that waits here or has its slot from here. */
interface Asked {
  peer: string;
  leave: AbortController;
  lease: FirstLease | null;
  /** Until its slot is claimed, or known where its node is. */
  kept: NodeJS.Timeout | null;
}

export function createKeeper(peers: Peers, queue: () => SlotQueue | null): Keeper {
  const asked = new Map<string, Asked>();
  const keyOf = (peer: string, id: number) => `${peer} ${id}`;

  function end(key: string, served: typeof NOTHING): void {
    const job = asked.get(key);
    if (!job) return;
    asked.delete(key);
    clearTimeout(job.kept ?? undefined);
    job.leave.abort(new GfeError("cancelled"));
    job.lease?.release();
    job.lease?.served(served);
  }

  async function wait(message: unknown, peer: string): Promise<void> {
    const told = askSchema.safeParse(message).data;
    const own = queue();
    if (!told || !own) return;
    const { id, wish, ...waiting } = told;
    const key = keyOf(peer, id);
    const job: Asked = { peer, leave: new AbortController(), lease: null, kept: null };
    asked.set(key, job);
    const queued = (place: Place) => peers.send(peer, { t: "place", id, ...place });
    try {
      const lease = await own.acquireHere(wishFromWire(wish), { ...waiting, queued }, job.leave.signal);
      job.lease = lease;
      if (asked.get(key) !== job) {
        lease.release();
        return lease.served(NOTHING);
      }
      const { node, offer } = lease.offer;
      const keptMs = node.hub === undefined ? RESERVED_MS : HANDED_OVER_MS;
      job.kept = setTimeout(() => claimed(job)(), keptMs).unref();
      peers.send(peer, { t: "turn", id, node: node.nodeId, model: offer.model });
    } catch (error) {
      if (asked.get(key) === job) asked.delete(key);
      peers.send(peer, { t: "refuse", id, ...errorToWire(error) });
    }
  }

  function claimed(job: Asked): () => void {
    clearTimeout(job.kept ?? undefined);
    job.kept = null;
    return job.lease!.handOver();
  }

  peers.on("ask", (peer, message) => void wait(message, peer));
  peers.on("over", (peer, message) => {
    const told = overSchema.safeParse(message).data;
    if (told) end(keyOf(peer, told.id), told.served);
  });
  peers.onGone((peer) => {
    for (const [key, job] of [...asked]) if (job.peer === peer) end(key, NOTHING);
  });

  return {
    claim(peer, id, nodeId) {
      const job = asked.get(keyOf(peer, id));
      const { node } = job?.lease?.offer ?? {};
      const isKept = job?.kept && node?.nodeId === nodeId && node.hub === undefined;
      return isKept ? claimed(job) : null;
    },
  };
}
