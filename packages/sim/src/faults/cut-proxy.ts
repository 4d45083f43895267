/**
 * A bad network between two programs of a test: what it does to the bytes of all its connections is changed at will.
 * What is held back while nothing passes goes on afterwards, as TCP sends again what was lost; so does an end.
 */
import { connect, createServer, type NetConnectOpts, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export type Direction = "up" | "down" | "both";

export interface CutProxy {
  readonly port: number;
  /** All goes through again at once, what was held back first. */
  pass(): void;
  /** Each piece comes so much later. */
  delay(ms: number): void;
  /** For each connection and direction. */
  throttle(bytesPerSecond: number): void;
  /** Connections stay and new ones are taken, but nothing passes: up is from who dialled. */
  blackHole(direction?: Direction): void;
  /** Breaks all connections; new ones are refused until `pass`. */
  cut(): void;
  /** Breaks the far side of all connections without a word to who dialled. */
  halfOpen(): void;
  connections(): number;
  /** Bytes that went through, both ways. */
  bytes(): number;
  close(): Promise<void>;
}

/** Pieces of a throttled connection are this long at most. */
const SLICE_MS = 50;

export async function startCutProxy(upstream: NetConnectOpts): Promise<CutProxy> {
  const pairs = new Set<{ near: Socket; far: Socket }>();
  let delayMs = 0;
  let bytesPerSecond = Number.POSITIVE_INFINITY;
  let hole: Direction | null = null;
  let refusing = false;
  let passed = 0;
  let onPass: (() => void)[] = [];

  async function passing(direction: Direction): Promise<void> {
    while (hole === direction || hole === "both") await new Promise<void>((resolve) => onPass.push(resolve));
  }

  async function pump(from: Socket, to: Socket, direction: Direction): Promise<void> {
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        for (let at = 0; at < chunk.length; ) {
          await passing(direction);
          const length = Math.max(
            1,
            Math.min(chunk.length - at, Math.floor((bytesPerSecond * SLICE_MS) / 1000)),
          );
          const slice = chunk.subarray(at, at + length);
          if (delayMs > 0) await sleep(delayMs);
          if (Number.isFinite(bytesPerSecond)) await sleep((length / bytesPerSecond) * 1000);
          await passing(direction);
          at += length;
          if (to.destroyed) continue; // read on: whoever sent it is not to know
          if (!to.write(slice)) await drained(to);
          passed += length;
        }
      }
      await passing(direction);
      to.end();
    } catch {
      await passing(direction);
      to.destroy();
    }
  }

  const server = createServer({ allowHalfOpen: true }, (near) => {
    near.on("error", () => {});
    if (refusing) return near.resetAndDestroy();
    const far = connect({ allowHalfOpen: true, ...upstream });
    far.on("error", () => {});
    const pair = { near, far };
    pairs.add(pair);
    const left = () => near.destroyed && far.destroyed && pairs.delete(pair);
    near.once("close", left);
    far.once("close", left);
    void pump(near, far, "up");
    void pump(far, near, "down");
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject).listen(0, "127.0.0.1", resolve);
  });

  return {
    port: (server.address() as { port: number }).port,
    pass() {
      delayMs = 0;
      bytesPerSecond = Number.POSITIVE_INFINITY;
      hole = null;
      refusing = false;
      for (const go of onPass.splice(0)) go();
    },
    delay(ms) {
      delayMs = ms;
    },
    throttle(rate) {
      bytesPerSecond = rate;
    },
    blackHole(direction = "both") {
      hole = direction;
    },
    cut() {
      refusing = true;
      for (const { near, far } of pairs) {
        near.resetAndDestroy();
        far.destroy();
      }
    },
    halfOpen() {
      hole = "down"; // the break is not told
      for (const { far } of pairs) far.destroy();
    },
    connections: () => pairs.size,
    bytes: () => passed,
    async close() {
      hole = null;
      for (const go of onPass.splice(0)) go();
      onPass = [];
      for (const { near, far } of pairs) {
        near.destroy();
        far.destroy();
      }
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Whatever comes first: room, or its end. */
function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      socket.off("drain", done);
      socket.off("close", done);
      resolve();
    };
    socket.once("drain", done).once("close", done);
  });
}
