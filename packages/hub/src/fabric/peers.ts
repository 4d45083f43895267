/**
 * Which other hubs there are. Each says `beat` when it has said nothing else for a while; one that was not heard for
 * GONE_MS is gone, with all that is known of it, and so are all where the bus is broken. Whoever is heard first, or
 * again, has joined: it is told what this hub has.
 */
import type { Bus } from "./bus.ts";

export const BEAT_MS = 1_000;
export const GONE_MS = 5_000;

/** Control messages are JSON; anything else begins with a byte that JSON does not. */
const BRACE = 0x7b;

export interface ControlMessage {
  t: string;
  [member: string]: unknown;
}

export interface Peers {
  readonly self: string;
  /** Alive now. */
  all(): Iterable<string>;
  send(peer: string, message: ControlMessage): void;
  sendBytes(peer: string, message: Uint8Array): void;
  tell(message: ControlMessage): void;
  /** A control message of that type; what its members are is for the listener to check. */
  on(type: string, listener: (peer: string, message: ControlMessage) => void): void;
  onBytes(listener: (peer: string, message: Uint8Array) => void): void;
  onJoined(listener: (peer: string) => void): void;
  /** Listeners run in the order in which they were added. */
  onGone(listener: (peer: string) => void): void;
  /** Says hello; listeners must be there by now. */
  start(): void;
  close(): Promise<void>;
}

export interface PeersOptions {
  bus: Bus;
  nowMs: () => number;
  beatMs?: number;
  goneMs?: number;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const encode = (message: ControlMessage) => encoder.encode(JSON.stringify(message));

export function createPeers({ bus, nowMs, beatMs = BEAT_MS, goneMs = GONE_MS }: PeersOptions): Peers {
  const heardAt = new Map<string, number>();
  const byType = new Map<string, ((peer: string, message: ControlMessage) => void)[]>();
  const onBytes: ((peer: string, message: Uint8Array) => void)[] = [];
  const onJoined: ((peer: string) => void)[] = [];
  const onGone: ((peer: string) => void)[] = [];
  let beating: NodeJS.Timeout | undefined;

  function leave(peer: string): void {
    if (heardAt.delete(peer)) for (const listener of onGone) listener(peer);
  }

  function beat(): void {
    const now = nowMs();
    for (const [peer, atMs] of heardAt) if (now - atMs > goneMs) leave(peer);
    bus.broadcast(encode({ t: "beat" }));
  }

  bus.onMessage((peer, bytes) => {
    const isControl = bytes[0] === BRACE;
    const message = isControl ? parse(bytes) : null;
    if (isControl && !message) return;
    if (message?.t === "bye") return leave(peer);
    const isNew = !heardAt.has(peer);
    heardAt.set(peer, nowMs());
    if (isNew) for (const listener of onJoined) listener(peer);
    if (message) for (const listener of byType.get(message.t) ?? []) listener(peer, message);
    else for (const listener of onBytes) listener(peer, bytes);
  });
  bus.onConnected((connected) => {
    if (connected) bus.broadcast(encode({ t: "beat" }));
    else for (const peer of [...heardAt.keys()]) leave(peer);
  });

  return {
    self: bus.self,
    all: () => heardAt.keys(),
    send: (peer, message) => bus.send(peer, encode(message)),
    sendBytes: (peer, message) => bus.send(peer, message),
    tell: (message) => bus.broadcast(encode(message)),
    on(type, listener) {
      byType.set(type, [...(byType.get(type) ?? []), listener]);
    },
    onBytes: (listener) => void onBytes.push(listener),
    onJoined: (listener) => void onJoined.push(listener),
    onGone: (listener) => void onGone.push(listener),
    start() {
      beat();
      beating = setInterval(beat, beatMs).unref();
    },
    async close() {
      clearInterval(beating);
      bus.broadcast(encode({ t: "bye" }));
      await bus.close();
    },
  };
}

function parse(bytes: Uint8Array): ControlMessage | null {
  try {
    const message: unknown = JSON.parse(decoder.decode(bytes));
    return typeof (message as ControlMessage | null)?.t === "string" ? (message as ControlMessage) : null;
  } catch {
    return null;
  }
}
