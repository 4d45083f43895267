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
  #piece = new Uint8Array(SEND_LIMITS.pieceBytes);
  /** Of the piece: what is kept back lies from here … */
  #from = 0;
  /** … to here. */
  #to = 0;
  /** What is kept back of earlier pieces, each to be one message. */
  #full: Uint8Array[] = [];
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
    this.#makeRoom(DELTA_HEADER_BYTES + text.length * 3);
    const { written } = encoder.encodeInto(text, this.#piece.subarray(this.#to + DELTA_HEADER_BYTES));
    if (this.#closed) return written;
    writeDeltaHeader(this.#piece, this.#to, kind, channel, written);
    this.#to += DELTA_HEADER_BYTES + written;
    this.#queuedBytes += DELTA_HEADER_BYTES + written;
    if (!this.#busyTurn && !this.#congested) {
      this.#busyTurn = true;
      this.#soon(this.#endTurn);
      this.#sendNext();
    }
    return written;
  }

  /** Everything kept back goes now, congested or not: before a control frame that must come after it. */
  flush(): void {
    while (this.#queuedBytes > 0) this.#sendNext();
  }

  /** In this piece or a new one; a frame that is larger gets a piece of its own. */
  #makeRoom(bytes: number): void {
    if (this.#piece.byteLength - this.#to >= bytes) return;
    if (this.#to > this.#from) this.#full.push(this.#piece.subarray(this.#from, this.#to));
    this.#piece = new Uint8Array(Math.max(SEND_LIMITS.pieceBytes, bytes));
    this.#from = 0;
    this.#to = 0;
  }

  #flushWhileClear(): void {
    this.#congested = false;
    while (this.#queuedBytes > 0 && !this.#congested) this.#sendNext();
  }

  #sendNext(): void {
    const bytes = this.#full.shift() ?? this.#piece.subarray(this.#from, this.#to);
    if (bytes.buffer === this.#piece.buffer) this.#from = this.#to;
    this.#queuedBytes -= bytes.byteLength;
    this.#socket.send(bytes, this.#written);
    if (this.#socket.bufferedBytes > SEND_LIMITS.congestedBytes) this.#congested = true;
  }

  /** After the socket's end: nothing more is kept, nobody waits. */
  close(): void {
    this.#closed = true;
    this.#full = [];
    this.#from = this.#to;
    this.#queuedBytes = 0;
    this.#clear();
  }

  readonly #endTurn = (): void => {
    if (this.#queuedBytes > 0 && !this.#congested) {
      // What comes on the heels of this is kept back once more: under load one message a turn.
      this.#soon(this.#endTurn);
      return this.#flushWhileClear();
    }
    this.#busyTurn = false;
  };

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
