/**
 * The way of deltas into one socket. A delta that comes alone goes at once; what else comes in the same turn of the
 * event loop, or while the socket is congested, is kept back and goes as one message.
 */
import { DELTA_HEADER_BYTES, type DeltaKind, writeDeltaHeader } from "@gfe/protocol";
import type { Host, Socket } from "./host.ts";
import { SEND_LIMITS } from "./limits.ts";

const encoder = new TextEncoder();

export class DeltaWriter {
  readonly #socket: Pick<Socket, "send" | "bufferedBytes">;
  readonly #soon: Host["soon"];
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  /** Something went in this turn already. */
  #busyTurn = false;
  #congested = false;
  #waiting: (() => void)[] = [];
  #closed = false;

  constructor(socket: Pick<Socket, "send" | "bufferedBytes">, soon: Host["soon"]) {
    this.#socket = socket;
    this.#soon = soon;
  }

  /** Whether whoever makes deltas should stop for now. */
  get congested(): boolean {
    return this.#congested;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Resolves when the socket has room again. */
  whenClear(): Promise<void> {
    if (!this.#congested) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Sends or keeps a delta of text; returns the bytes of its payload. */
  text(kind: DeltaKind, channel: number, text: string): number {
    // Short text is the common case: encoded straight behind its header.
    const frame = new Uint8Array(DELTA_HEADER_BYTES + text.length * 3);
    const { written } = encoder.encodeInto(text, frame.subarray(DELTA_HEADER_BYTES));
    writeDeltaHeader(frame, kind, channel, written);
    this.#push(frame.subarray(0, DELTA_HEADER_BYTES + written));
    return written;
  }

  /** Everything kept back goes now, congested or not: before a control frame that must come after it. */
  flush(): void {
    while (this.#queue.length > 0) this.#sendNext();
  }

  #flushWhileClear(): void {
    this.#congested = false;
    while (this.#queue.length > 0 && !this.#congested) this.#sendNext();
  }

  #sendNext(): void {
    let size = this.#queue[0]!.byteLength;
    let count = 1;
    for (; count < this.#queue.length; count++) {
      const next = this.#queue[count]!.byteLength;
      if (size + next > SEND_LIMITS.messageBytes) break;
      size += next;
    }
    const frames = this.#queue.splice(0, count);
    this.#queuedBytes -= size;
    this.#send(count === 1 ? frames[0]! : join(frames, size));
  }

  /** After the socket's end: nothing more is kept, nobody waits. */
  close(): void {
    this.#closed = true;
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#clear();
  }

  #push(frame: Uint8Array): void {
    if (this.#closed) return;
    if (!this.#busyTurn && !this.#congested) {
      this.#busyTurn = true;
      this.#soon(this.#endTurn);
      return this.#send(frame);
    }
    this.#queue.push(frame);
    this.#queuedBytes += frame.byteLength;
  }

  readonly #endTurn = (): void => {
    if (this.#queue.length > 0 && !this.#congested) {
      // What comes on the heels of this is kept back once more: under load one message a turn.
      this.#soon(this.#endTurn);
      return this.#flushWhileClear();
    }
    this.#busyTurn = false;
  };

  #send(bytes: Uint8Array): void {
    this.#socket.send(bytes, this.#written);
    if (this.#socket.bufferedBytes > SEND_LIMITS.congestedBytes) this.#congested = true;
  }

  readonly #written = (): void => {
    if (!this.#congested || this.#closed || this.#socket.bufferedBytes > SEND_LIMITS.clearBytes) return;
    this.#flushWhileClear();
    if (!this.#congested) this.#clear();
  };

  #clear(): void {
    this.#congested = false;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resume of waiting) resume();
  }
}

function join(frames: readonly Uint8Array[], size: number): Uint8Array {
  const whole = new Uint8Array(size);
  let at = 0;
  for (const frame of frames) {
    whole.set(frame, at);
    at += frame.byteLength;
  }
  return whole;
}
