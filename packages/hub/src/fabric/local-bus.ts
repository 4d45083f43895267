/** A bus between hubs in one process, for tests: each message arrives in a turn of its own, as on a network. */
import type { Bus } from "./bus.ts";

export interface LocalNetwork {
  join(self: string): Bus;
  /** Nothing passes any more, until it is mended. */
  cut(): void;
  mend(): void;
}

interface Member {
  take(from: string, message: Uint8Array): void;
  told(connected: boolean): void;
}

export function createLocalNetwork(): LocalNetwork {
  const members = new Map<string, Member>();
  let whole = true;

  const deliver = (from: string, to: Member, message: Uint8Array) => {
    const copy = message.slice();
    setImmediate(() => to.take(from, copy));
  };

  const set = (connected: boolean) => {
    if (whole === connected) return;
    whole = connected;
    for (const member of members.values()) member.told(connected);
  };

  return {
    join(self) {
      const onMessage: ((from: string, message: Uint8Array) => void)[] = [];
      const onConnected: ((connected: boolean) => void)[] = [];
      let open = true;
      members.set(self, {
        take: (from, message) => {
          if (open && whole) for (const listener of onMessage) listener(from, message);
        },
        told: (connected) => {
          for (const listener of onConnected) listener(connected);
        },
      });
      return {
        self,
        get connected() {
          return open && whole;
        },
        send(peer, message) {
          const member = members.get(peer);
          if (open && whole && member) deliver(self, member, message);
        },
        broadcast(message) {
          if (!open || !whole) return;
          for (const [name, member] of members) if (name !== self) deliver(self, member, message);
        },
        onMessage: (listener) => void onMessage.push(listener),
        onConnected: (listener) => void onConnected.push(listener),
        async close() {
          open = false;
          members.delete(self);
        },
      };
    },
    cut: () => set(false),
    mend: () => set(true),
  };
}
