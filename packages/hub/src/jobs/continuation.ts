/**
 * Going on with a broken answer on another node. The node is given what its caller has of the answer so far and says
 * only what comes behind it, so that the caller sees one stream. That can be done with plain text alone, and only on the
 * very same model: not inside a tool call, a thought or JSON, nor with several choices or log-probabilities.
 */
import type { ChoiceDelta, EmbeddingsDelta } from "@gfe/protocol";
import { type Before, capOfRest } from "../billing/bill.ts";
import type { Wish } from "../market/match.ts";
import type { Offer } from "../market/registry.ts";
import type { Running } from "./running.ts";
import { quoteFor } from "./terms.ts";
import type { JobRequest, JobSink, JobStart, Place } from "./types.ts";

/** Nodes that may go on with one answer, beside the one that began it. */
export const CONTINUATIONS_MAX = 2;
/** Characters of an answer that are kept for it; what is longer can't be gone on with. */
export const PREFIX_LENGTH_MAX = 1024 * 1024;

/** Whether an answer to the request can be gone on with at all, where `offer` began it. */
export function isContinuable({ kind, whole, choices, body }: JobRequest, { offer }: Offer): boolean {
  const format = (body.response_format as { type?: unknown } | undefined)?.type ?? "text";
  return (
    (kind === "chat" || kind === "completion") &&
    !whole &&
    choices === 1 &&
    !body.logprobs &&
    format === "text" &&
    offer.digest !== undefined &&
    offer.capabilities.includes("continuation")
  );
}

/** Passes an answer on and keeps what was said, for as long as it can be gone on with. */
export class SaidSoFar implements JobSink {
  readonly #sink: JobSink;
  #pieces: string[] = [];
  #length = 0;
  #plain = true;

  constructor(sink: JobSink) {
    this.#sink = sink;
  }

  /** What the caller has of the answer, piece by piece; null where that is nothing, or can't be gone on with. */
  get soFar(): string[] | null {
    return this.#plain && this.#pieces.length > 0 ? [...this.#pieces] : null;
  }

  queued(place: Place): void {
    this.#sink.queued?.(place);
  }

  /** Only a node that begins the answer is told of: nothing was said before, nor kept. */
  started(info: JobStart): void {
    this.#sink.started?.(info);
  }

  text(text: string): void {
    if (this.#plain) {
      this.#pieces.push(text);
      this.#length += text.length;
      if (this.#length > PREFIX_LENGTH_MAX) this.#giveUp();
    }
    this.#sink.text(text);
  }

  reasoning(text: string): void {
    this.#giveUp();
    this.#sink.reasoning(text);
  }

  choice(delta: ChoiceDelta): void {
    this.#giveUp();
    this.#sink.choice(delta);
  }

  embeddings(delta: EmbeddingsDelta): void {
    this.#sink.embeddings(delta);
  }

  #giveUp(): void {
    this.#plain = false;
    this.#pieces = [];
  }
}

/** Who may go on with a job's answer: the same model to the last bit, within what is held and not yet owed. */
export function wishToContinue(
  { wish, request, triedNodes }: Running,
  before: Before,
  digest: string,
  allows: (nodeId: string) => boolean,
): Wish {
  const left = before.heldMicro - before.chargeMicro;
  return {
    ...wish,
    needs: [...wish.needs, "continuation"],
    digest,
    steering: wish.steering && { ...wish.steering, anyQuantisation: false },
    allows,
    excluded: new Set(triedNodes),
    affordable: (offer) => capOfRest(quoteFor(request, offer), before) <= left,
  };
}
