/** A job's answer as the events of a response, numbered from 0. */
import type { ServerResponse } from "node:http";
import { type ChoiceDelta, type GfeError, toOpenAiError } from "@gfe/protocol";
import type { JobOutcome, JobStart, Place } from "../../jobs/types.ts";
import { type Block, type BlockListener, Blocks, type Logprobs } from "../inference/blocks.ts";
import type { StreamedAnswer } from "../inference/serve.ts";
import { queuedComment } from "../inference/stream.ts";
import { StreamWriter } from "../inference/stream-writer.ts";
import type { KeptItem } from "./store.ts";
import {
  cutReason,
  endedWire,
  failedWire,
  type ItemStatus,
  itemWire,
  type ResponseHead,
  type ResponseWire,
  responseWire,
  textPart,
  thoughtPart,
} from "./wire.ts";

export interface ResponseStreamOptions {
  response: ServerResponse;
  head: ResponseHead;
  headers: Record<string, string>;
  /** Keeps the ended response, where that is asked for; resolves with what its caller is told. Must not reject. */
  keep(response: ResponseWire): Promise<ResponseWire>;
}

export class ResponseStream implements StreamedAnswer, BlockListener {
  readonly writer: StreamWriter;
  readonly #head: ResponseHead;
  readonly #keep: ResponseStreamOptions["keep"];
  #blocks = new Blocks(this);
  #output: KeptItem[] = [];
  #sequence = 0;
  /** What a block is that ends now. */
  #endsAs: ItemStatus = "completed";

  constructor({ response, head, headers, keep }: ResponseStreamOptions) {
    this.#head = head;
    this.#keep = keep;
    this.writer = new StreamWriter({
      response,
      headers: { ...headers, "content-type": "text/event-stream; charset=utf-8" },
      keepAlive: ": keep-alive\n\n",
    });
  }

  queued(place: Place): void {
    this.writer.write(queuedComment(place));
  }

  started(start: JobStart): void {
    this.#blocks = new Blocks(this);
    this.writer.nameJob(start);
  }

  text(text: string): void {
    this.#blocks.text(text);
  }

  reasoning(text: string): void {
    this.#blocks.reasoning(text);
  }

  choice(delta: ChoiceDelta): void {
    this.#blocks.choice(delta);
  }

  embeddings(): void {}

  opened(block: Block, index: number): void {
    this.#begin();
    const item = itemWire(this.#head, block, index, "in_progress");
    this.#output[index] = item;
    this.#event("response.output_item.added", { output_index: index, item });
    const at = { item_id: item.id, output_index: index };
    const none = { text: "", logprobs: [] };
    if (block.type === "text")
      this.#event("response.content_part.added", { ...at, content_index: 0, part: textPart(none) });
    if (block.type === "reasoning")
      this.#event("response.reasoning_summary_part.added", {
        ...at,
        summary_index: 0,
        part: thoughtPart(none),
      });
  }

  said({ type }: Block, index: number, delta: string, logprobs: Logprobs): void {
    const at = { item_id: this.#output[index]!.id, output_index: index };
    switch (type) {
      case "text":
        return this.#event("response.output_text.delta", { ...at, content_index: 0, delta, logprobs });
      case "reasoning":
        return this.#event("response.reasoning_summary_text.delta", { ...at, summary_index: 0, delta });
      case "call":
        return this.#event("response.function_call_arguments.delta", { ...at, delta });
    }
  }

  closed(block: Block, index: number): void {
    const item = itemWire(this.#head, block, index, this.#endsAs);
    const { text, logprobs, name } = block;
    const at = { item_id: item.id, output_index: index };
    if (block.type === "text") {
      const there = { ...at, content_index: 0 };
      this.#event("response.output_text.done", { ...there, text, logprobs });
      this.#event("response.content_part.done", { ...there, part: textPart(block) });
    } else if (block.type === "reasoning") {
      const there = { ...at, summary_index: 0 };
      this.#event("response.reasoning_summary_text.done", { ...there, text });
      this.#event("response.reasoning_summary_part.done", { ...there, part: thoughtPart(block) });
    } else this.#event("response.function_call_arguments.done", { ...at, name, arguments: text });
    this.#output[index] = item;
    this.#event("response.output_item.done", { output_index: index, item });
  }

  /** Its caller may go on from it at once: it is kept before its end is told. */
  async finish(outcome: JobOutcome): Promise<void> {
    this.#begin();
    if (cutReason(outcome)) this.#endsAs = "incomplete";
    this.#blocks.end();
    const response = await this.#keep(endedWire(this.#head, this.#output, outcome));
    this.#event(`response.${response.status}`, { response });
    this.writer.end();
  }

  /** The error first: clients that raise it hear no more, and those that don't count `response.failed` for the same. */
  fail(error: GfeError): void {
    const wire = toOpenAiError(error);
    const { code, message, param } = wire.error;
    const isBegun = this.#sequence > 0;
    this.#event("error", { code, message, param, ...wire });
    if (isBegun) {
      const output = this.#blocks.all.map((block, index) => {
        const item = this.#output[index]!;
        return item.status === "in_progress" ? itemWire(this.#head, block, index, "incomplete") : item;
      });
      this.#event("response.failed", { response: failedWire(this.#head, output, error) });
    }
    this.writer.end();
  }

  /** With the first piece, not before: until then a failure still has its HTTP status. */
  #begin(): void {
    if (this.#sequence > 0) return;
    const response = responseWire(this.#head, "in_progress", []);
    this.#event("response.created", { response });
    this.#event("response.in_progress", { response });
  }

  #event(type: string, fields: object): void {
    const data = { type, sequence_number: this.#sequence++, ...fields };
    this.writer.write(`event: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
  }
}
