/**
 * A job's answer as server-sent events: the hot path. A chunk is a fixed head, the delta as JSON, a fixed tail, and no
 * more; what comes in the same tick goes out in one write. Headers wait for the first delta, so that a failure before
 * it still has its HTTP status; after FIRST_BYTE_MS they go anyway, with comments that keep proxies from cutting.
 *
 * A reader that does not keep up holds its node back: above PAUSE_BYTES in the socket the attempt is paused until the
 * socket has drained; above STUCK_BYTES the reader is cut off.
 */
import type { ServerResponse } from "node:http";
import { type ChoiceDelta, type FinishReason, GfeError, toOpenAiError } from "@gfe/protocol";
import type { FlowControl, JobOutcome, JobSink } from "../../jobs/types.ts";
import { type AnswerHead, gfeWire, usageWire } from "./answer.ts";

export const FIRST_BYTE_MS = 10_000;
export const KEEP_ALIVE_MS = 15_000;
export const PAUSE_BYTES = 256 * 1024;
export const STUCK_BYTES = 16 * 1024 * 1024;

export interface StreamOptions {
  response: ServerResponse;
  head: AnswerHead;
  shape: "chat" | "completion";
  includeUsage: boolean;
  headers: Record<string, string>;
}

export class AnswerStream implements JobSink, FlowControl {
  readonly #response: ServerResponse;
  readonly #options: StreamOptions;
  readonly #chunkStart: string;
  readonly #textHead: string;
  readonly #textTail: string;
  readonly #begun = new Set<number>();
  #pending = "";
  #flushing = false;
  #keepAlive: NodeJS.Timeout | undefined;
  #control: { pause(): void; resume(): void } | null = null;
  #paused = false;

  constructor(options: StreamOptions) {
    this.#options = options;
    this.#response = options.response;
    const start = chunkStart(options);
    this.#chunkStart = start;
    this.#textHead =
      options.shape === "chat"
        ? `${start}"choices":[{"index":0,"delta":{"content":`
        : `${start}"choices":[{"index":0,"text":`;
    const usage = options.includeUsage ? ',"usage":null' : "";
    this.#textTail =
      options.shape === "chat"
        ? `},"logprobs":null,"finish_reason":null}]${usage}}\n\n`
        : `,"logprobs":null,"finish_reason":null}]${usage}}\n\n`;
    this.#keepAlive = setTimeout(() => this.#onQuiet(), FIRST_BYTE_MS);
  }

  get headersSent(): boolean {
    return this.#response.headersSent;
  }

  attach(control: { pause(): void; resume(): void }): void {
    this.#control = control;
    if (this.#paused) control.pause();
  }

  started({ jobId, nodeId }: { jobId: string; nodeId: string }): void {
    this.#options.headers["x-gfe-job"] = jobId;
    this.#options.headers["x-gfe-provider"] = nodeId;
  }

  text(text: string): void {
    if (this.#options.shape === "chat" && !this.#begun.has(0))
      return this.choice({ index: 0, content: text });
    this.#write(`${this.#textHead}${JSON.stringify(text)}${this.#textTail}`);
  }

  reasoning(text: string): void {
    this.choice({ index: 0, reasoning: text });
  }

  choice({ index, content, reasoning, tool_calls, logprobs }: ChoiceDelta): void {
    if (this.#options.shape === "completion") {
      if (content !== undefined) this.#chunk([{ index, text: content, logprobs: null, finish_reason: null }]);
      return;
    }
    const role = this.#begun.has(index) ? {} : { role: "assistant" };
    this.#begun.add(index);
    const delta = { ...role, content, reasoning_content: reasoning, tool_calls };
    this.#chunk([{ index, delta, logprobs: logprobs ?? null, finish_reason: null }]);
  }

  embeddings(): void {}

  /** The end of a completed job. */
  finish(outcome: JobOutcome): void {
    const finish: FinishReason[] = outcome.finish.length > 0 ? outcome.finish : ["stop"];
    for (const [index, finish_reason] of finish.entries()) {
      const part =
        this.#options.shape === "chat"
          ? { delta: this.#begun.has(index) ? {} : { role: "assistant", content: "" } }
          : { text: "" };
      this.#chunk([{ index, ...part, logprobs: null, finish_reason }]);
    }
    if (this.#options.includeUsage) this.#usage(outcome);
    this.#write("data: [DONE]\n\n");
    this.#end();
  }

  /** The end of a broken one, after its headers went: an error chunk, which every probed client raises. */
  fail(error: GfeError, outcome?: JobOutcome): void {
    const extra = outcome ? { x_gfe: gfeWire(outcome), usage: usageWire(outcome.usage) } : {};
    this.#write(`data: ${JSON.stringify({ ...toOpenAiError(error), ...extra })}\n\n`);
    this.#end();
  }

  /** Ends without a word: the caller is gone, or its headers were never sent. */
  abandon(): void {
    clearTimeout(this.#keepAlive);
    this.#control = null;
  }

  #usage(outcome: JobOutcome): void {
    this.#write(
      `${this.#chunkStart}"choices":[],"usage":${JSON.stringify(usageWire(outcome.usage))},"x_gfe":${JSON.stringify(gfeWire(outcome))}}\n\n`,
    );
  }

  #chunk(choices: object[]): void {
    const usage = this.#options.includeUsage ? ',"usage":null' : "";
    this.#write(`${this.#chunkStart}"choices":${JSON.stringify(choices)}${usage}}\n\n`);
  }

  #write(chunk: string): void {
    this.#pending += chunk;
    if (this.#flushing) return;
    this.#flushing = true;
    process.nextTick(() => this.#flush());
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
      ...this.#options.headers,
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache, no-transform",
      "x-accel-buffering": "no",
    });
    clearTimeout(this.#keepAlive);
    this.#keepAlive = setInterval(() => this.#onQuiet(), KEEP_ALIVE_MS);
  }

  #onQuiet(): void {
    this.#write(": keep-alive\n\n");
  }

  #end(): void {
    this.#control = null;
    this.#flush();
    clearTimeout(this.#keepAlive); // after the flush, whose headers start it
    this.#response.end();
  }
}

/** What every chunk of an answer begins with. */
function chunkStart({ head, shape }: StreamOptions): string {
  const object = shape === "chat" ? "chat.completion.chunk" : "text_completion";
  return `data: {"id":${JSON.stringify(head.id)},"object":"${object}","created":${head.created},"model":${JSON.stringify(head.model)},`;
}
