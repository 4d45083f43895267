/** What hubs gather for a moment and then tell each other in bulk. Where a message is lost they differ by that much. */
import { z } from "zod";
import type { Peers } from "./peers.ts";

/** Items in one message. */
const ITEMS_MAX = 1_000;

export interface Gossip<Item = unknown> {
  /** The type of its messages. */
  readonly name: string;
  readonly everyMs: number;
  readonly item: z.ZodType<Item>;
  /** At most so many that were not taken before. */
  take(max: number): readonly Item[];
  /** What another hub told. */
  learn(items: readonly Item[]): void;
}

/** Returns the function that tells the last of it and ends it. */
export function startGossip(peers: Peers, { name, everyMs, item, take, learn }: Gossip): () => void {
  const message = z.object({ items: z.array(item).max(ITEMS_MAX) });
  function tell(): void {
    for (let items = take(ITEMS_MAX); items.length > 0; items = take(ITEMS_MAX))
      peers.tell({ t: name, items });
  }
  const telling = setInterval(tell, everyMs).unref();
  peers.on(name, (_peer, told) => {
    const { data } = message.safeParse(told);
    if (data) learn(data.items);
  });
  return () => {
    clearInterval(telling);
    tell();
  };
}
