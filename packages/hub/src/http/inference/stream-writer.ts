/**
 * Writes a streamed answer, whatever its dialect: the hot path. What comes in the same tick goes out in one write.
 * Headers wait for the first piece, so that a failure before it still has its HTTP status; after FIRST_BYTE_MS of
 * silence they go anyway, where the dialect has a piece that means nothing, which keeps proxies from cutting.
 *
 * A reader that does not keep up holds its node back: above PAUSE_BYTES in the socket the attempt is paused until the
 * socket has drained; above STUCK_BYTES the reader is cut off.
 */
import type { ServerResponse } from "node:http";
import { GfeError } from "@gfe/protocol";
import type { FlowControl, JobStart } from "../../jobs/types.ts";
import { ANSWER_HEADERS } from "../security-headers.ts";

export const FIRST_BYTE_MS = 10_000;
export const KEEP_ALIVE_MS = 15_000;
export const PAUSE_BYTES = 256 * 1024;
export const STUCK_BYTES = 16 * 1024 * 1024;

export interface StreamWriterOptions {
  response: ServerResponse;
  headers: Record<string, string>;
  /** A piece that every client of the dialect skips; without one nothing is sent before the answer begins. */
  keepAlive?: string;
}

export class StreamWriter implements FlowControl {
  readonly #response: ServerResponse;
  readonly #headers: Record<string, string>;
  readonly #quiet: string | undefined;
  #pending = "";
  #flushing = false;
  #keepAlive: NodeJS.Timeout | undefined;
  #control: { pause(): void; resume(): void } | null = null;
  #paused = false;

  constructor({ response, headers, keepAlive }: StreamWriterOptions) {
    this.#response = response;
    this.#headers = headers;
    this.#quiet = keepAlive;
    if (keepAlive !== undefined) this.#keepAlive = setTimeout(() => this.write(keepAlive), FIRST_BYTE_MS);
  }

  get headersSent(): boolean {
    return this.#response.headersSent;
  }

  /** Only before the first piece. */
  setHeader(name: string, value: string): void {
    this.#headers[name] = value;
  }

  /**
   * Says whose answer comes and what it may cost at most: what it does cost is known at its end, when headers are long
   * gone, and stands in the last chunk and on the job.
   */
  nameJob({ jobId, nodeId, capMicro }: JobStart): void {
    this.setHeader("x-gfe-job", jobId);
    this.setHeader("x-gfe-provider", nodeId);
    this.setHeader("x-gfe-quote", capMicro.toString());
  }

  attach(control: { pause(): void; resume(): void }): void {
    this.#control = control;
    if (this.#paused) control.pause();
  }

  write(piece: string): void {
    this.#pending += piece;
    if (this.#flushing) return;
    this.#flushing = true;
    process.nextTick(() => this.#flush());
  }

  end(): void {
    this.#control = null;
    this.#flush();
    clearTimeout(this.#keepAlive); // after the flush, whose headers start it
    this.#response.end();
  }

  /** Ends without a word: the caller is gone, or its headers were never sent. */
  abandon(): void {
    clearTimeout(this.#keepAlive);
    this.#control = null;
  }

  #flush(): void {
    this.#flushing = false;
    const response = this.#response;
    if (response.destroyed || response.writableEnded || this.#pending === "") return;
    this.#sendHeaders();
    const chunk = this.#pending;
    this.#pending = "";
    response.write(chunk);
    if (response.writableLength > STUCK_BYTES) response.destroy(new GfeError("cancelled"));
    else if (!this.#paused && response.writableLength > PAUSE_BYTES) this.#pause();
  }

  #pause(): void {
    this.#paused = true;
    this.#control?.pause();
    this.#response.once("drain", () => {
      this.#paused = false;
      this.#control?.resume();
    });
  }

  #sendHeaders(): void {
    if (this.#response.headersSent) return;
    this.#response.writeHead(200, {
      ...this.#headers,
      ...ANSWER_HEADERS,
      "cache-control": "no-cache, no-transform",
      "x-accel-buffering": "no",
    });
    clearTimeout(this.#keepAlive);
    const quiet = this.#quiet;
    if (quiet !== undefined) this.#keepAlive = setInterval(() => this.write(quiet), KEEP_ALIVE_MS);
  }
}
