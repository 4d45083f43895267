/**
 * The bus over Redis or Valkey: publish and subscribe, one channel for each hub and one for all. What is sent in one turn
 * of the event loop to one receiver goes as one message, so that a flood of tokens is not a flood of commands.
 *
 *   publication: u8 length · sender · (u32 length · message) …      (big endian)
 */
import { createClient, RESP_TYPES } from "@redis/client";
import { BUS_MESSAGE_BYTES_MAX, type Bus } from "./bus.ts";

const ALL = "gfe:all";
const channelOf = (peer: string) => `gfe:to:${peer}`;
const RETRY_MS_MAX = 2_000;
const CLOSE_TIMEOUT_MS = 1_000;
const CONNECT_TIMEOUT_MS = 5_000;
/** A connection on which nothing was heard for two of these is taken for broken. */
const PING_MS = 2_000;
/** Above it messages are lost: Redis does not keep up. */
const WAITING_BYTES_MAX = 64 * 1024 * 1024;

export interface RedisBusOptions {
  /** `redis://…` or `rediss://…` */
  url: string;
  self: string;
  log: { warn(fields: object, message: string): void; info(fields: object, message: string): void };
}

/** Resolves once it is connected; rejects with words for the operator where that is not possible. */
export async function connectRedisBus({ url, self, log }: RedisBusOptions): Promise<Bus> {
  const onMessage: ((from: string, message: Uint8Array) => void)[] = [];
  const onConnected: ((connected: boolean) => void)[] = [];
  const waiting = new Map<string, Uint8Array[]>();
  let waitingBytes = 0;
  let flushing = false;
  let connected = false;
  let closed = false;

  const client = () =>
    createClient({
      url,
      disableOfflineQueue: true,
      pingInterval: PING_MS,
      socket: {
        connectTimeout: CONNECT_TIMEOUT_MS,
        socketTimeout: 3 * PING_MS,
        reconnectStrategy: (retries) => Math.min(RETRY_MS_MAX, 50 * 2 ** Math.min(retries, 6)),
      },
    }).withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  const [out, into] = [client(), client()];
  const ready = { out: false, in: false };

  const look = () => {
    const now = ready.out && ready.in && !closed;
    if (now === connected) return;
    connected = now;
    if (!now) drop();
    if (!closed)
      log[now ? "info" : "warn"](
        {},
        now ? "connected to the other hubs" : "Redis was lost: the other hubs are out of reach",
      );
    for (const listener of onConnected) listener(now);
  };
  const drop = () => {
    waiting.clear();
    waitingBytes = 0;
  };
  for (const [name, one] of [
    ["out", out],
    ["in", into],
  ] as const) {
    const set = (is: boolean) => () => {
      ready[name] = is;
      look();
    };
    one.on("ready", set(true));
    one.on("reconnecting", set(false));
    one.on("end", set(false));
    one.on("error", set(false));
  }

  function take(publication: Buffer): void {
    const nameLength = publication[0]!;
    const from = publication.toString("latin1", 1, 1 + nameLength);
    if (from === self) return;
    for (let at = 1 + nameLength; at + 4 <= publication.length; ) {
      const length = publication.readUInt32BE(at);
      const message = publication.subarray(at + 4, at + 4 + length);
      at += 4 + length;
      for (const listener of onMessage) listener(from, message);
    }
  }

  const name = Buffer.from(self, "latin1");
  const head = Buffer.concat([Buffer.of(name.length), name]);

  function enqueue(channel: string, message: Uint8Array): void {
    if (!connected || waitingBytes > WAITING_BYTES_MAX) return;
    if (message.byteLength > BUS_MESSAGE_BYTES_MAX)
      throw new RangeError("a message is too large for the bus");
    waitingBytes += message.byteLength;
    const list = waiting.get(channel);
    const copy = message.slice();
    if (list) list.push(copy);
    else waiting.set(channel, [copy]);
    if (flushing) return;
    flushing = true;
    setImmediate(() => {
      flushing = false;
      flush();
    });
  }

  function flush(): void {
    for (const [channel, messages] of waiting) {
      const parts: Uint8Array[] = [head];
      for (const message of messages) {
        const length = Buffer.allocUnsafe(4);
        length.writeUInt32BE(message.byteLength);
        parts.push(length, message);
      }
      const publication = Buffer.concat(parts);
      const bytes = publication.byteLength - head.byteLength - 4 * messages.length;
      // What Redis did not take is lost, as the bus says; a break is told by the socket.
      void out.publish(channel, publication).then(
        () => sent(bytes),
        () => sent(bytes),
      );
    }
    waiting.clear();
  }
  const sent = (bytes: number) => {
    waitingBytes = Math.max(0, waitingBytes - bytes);
  };

  const first = [out.connect(), into.connect()];
  try {
    await within(CONNECT_TIMEOUT_MS, Promise.all(first));
    await into.subscribe([ALL, channelOf(self)], (message) => take(message), true);
  } catch (cause) {
    closed = true;
    out.destroy();
    into.destroy();
    throw new Error(`REDIS_URL: no answer from ${shown(url)}`, { cause });
  }
  look();

  return {
    self,
    get connected() {
      return connected;
    },
    send: (peer, message) => enqueue(channelOf(peer), message),
    broadcast(message) {
      // What was sent to one of them before goes before; what is sent later lies behind in `waiting`.
      if (waiting.size > 1 || !waiting.has(ALL)) flush();
      enqueue(ALL, message);
    },
    onMessage: (listener) => void onMessage.push(listener),
    onConnected: (listener) => void onConnected.push(listener),
    async close() {
      if (closed) return;
      flush();
      closed = true;
      look();
      // A Redis that is away, or does not answer, keeps nobody from ending.
      await Promise.all(
        [out, into].map((one) => within(CLOSE_TIMEOUT_MS, one.close()).catch(() => one.destroy())),
      );
    },
  };
}

/** Without its password. */
function shown(url: string): string {
  const parsed = URL.parse(url);
  return parsed ? `${parsed.protocol}//${parsed.host}` : "what it names";
}

function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms`)), ms);
  });
  return Promise.race([promise, over]).finally(() => clearTimeout(timer));
}
