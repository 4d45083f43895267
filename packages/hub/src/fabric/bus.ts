/**
 * Messages between the hubs of one database. At most once, and in order from each sender to each receiver: a message is
 * lost where its receiver is away or the bus is broken, and whoever needs more counts for itself (relay.ts). Nothing is
 * kept on the bus: truth is in PostgreSQL, and what hubs know of each other is told anew after a break.
 */
export interface Bus {
  /** This process among the others; another one after each start. */
  readonly self: string;
  /** Whether messages pass now. */
  readonly connected: boolean;
  send(peer: string, message: Uint8Array): void;
  /** To all others. */
  broadcast(message: Uint8Array): void;
  /** Listeners run in the order of arrival and must not throw; the message is theirs to keep. */
  onMessage(listener: (from: string, message: Uint8Array) => void): void;
  /** Called with each change of `connected`. */
  onConnected(listener: (connected: boolean) => void): void;
  close(): Promise<void>;
}

/** A message above this is refused by `send`: an attempt's frame may have 16 MiB. */
export const BUS_MESSAGE_BYTES_MAX = 32 * 1024 * 1024;
