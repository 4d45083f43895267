/** Which hub keeps the queue of all: the one that has been there longest, and does not leave. */
import type { Peers } from "../peers.ts";

export interface Home {
  /** The hub, perhaps this one. Hubs may differ about it for a moment: then there are two queues for so long. */
  id(): string;
  isHere(): boolean;
  /** This hub is nobody's home any more. */
  leave(): void;
  /** Another hub is no home any more: it is lost, or leaves. */
  onLost(listener: (peer: string) => void): void;
}

export function createHome(peers: Peers): Home {
  const leaving = new Set<string>();
  const onLost: ((peer: string) => void)[] = [];
  const lose = (peer: string) => {
    for (const listener of onLost) listener(peer);
  };
  peers.onJoined((peer) => {
    if (leaving.has(peers.self)) peers.send(peer, { t: "leaving" });
  });
  peers.on("leaving", (peer) => {
    leaving.add(peer);
    lose(peer);
  });
  peers.onGone((peer) => {
    leaving.delete(peer);
    lose(peer);
  });

  function id(): string {
    let home = leaving.has(peers.self) ? null : peers.self;
    // An id begins with the time when its hub started.
    for (const peer of peers.all()) if (!leaving.has(peer) && (home === null || peer < home)) home = peer;
    return home ?? peers.self;
  }
  return {
    id,
    isHere: () => id() === peers.self,
    leave() {
      leaving.add(peers.self);
      peers.tell({ t: "leaving" });
    },
    onLost: (listener) => void onLost.push(listener),
  };
}
