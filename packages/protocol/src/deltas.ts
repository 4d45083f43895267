/**
 * Binary frames, agent → hub: what the engine says, with no JSON around the common case. A message is one or more of
 *
 *   u8 kind · u32 channel · u32 length · payload      (big endian)
 *
 * so that many tokens may share one message under load. `text` and `reasoning` are raw UTF-8 of choice 0 (a payload
 * may split a code point; the hub decodes as a stream). `choice` is JSON for all that is rarer: tool calls,
 * log-probabilities, other choices. `embeddings` is JSON with base64 of little-endian float32.
 */
import { z } from "zod";

export const DELTA_HEADER_BYTES = 9;
/**
 * Deltas in one message. Each becomes a piece of its own at the caller, many times its size, so the bytes of a message
 * do not bound what it costs. Our agent's messages of 64 KiB hold fewer than half as many.
 */
export const DELTAS_PER_MESSAGE_MAX = 16_384;
export const deltaKind = { text: 1, reasoning: 2, choice: 3, embeddings: 4 } as const;
export type DeltaKind = (typeof deltaKind)[keyof typeof deltaKind];

export interface Delta {
  kind: DeltaKind;
  channel: number;
  payload: Uint8Array;
}

/** One delta as bytes to send. */
export function encodeDelta(kind: DeltaKind, channel: number, payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(DELTA_HEADER_BYTES + payload.byteLength);
  writeDeltaHeader(frame, 0, kind, channel, payload.byteLength);
  frame.set(payload, DELTA_HEADER_BYTES);
  return frame;
}

/** Writes a header at `at`; the payload of `length` bytes belongs behind it. */
export function writeDeltaHeader(
  target: Uint8Array,
  at: number,
  kind: DeltaKind,
  channel: number,
  length: number,
): void {
  target[at] = kind;
  target[at + 1] = channel >>> 24;
  target[at + 2] = channel >>> 16;
  target[at + 3] = channel >>> 8;
  target[at + 4] = channel;
  target[at + 5] = length >>> 24;
  target[at + 6] = length >>> 16;
  target[at + 7] = length >>> 8;
  target[at + 8] = length;
}

/**
 * Calls `onDelta` for each delta of a message; payloads are views. Returns false when the message is malformed, or at
 * the delta beyond DELTAS_PER_MESSAGE_MAX: those before were handed on.
 */
export function decodeDeltas(
  message: Uint8Array,
  onDelta: (kind: DeltaKind, channel: number, payload: Uint8Array) => void,
): boolean {
  let at = 0;
  let count = 0;
  while (at < message.byteLength) {
    if (message.byteLength - at < DELTA_HEADER_BYTES || ++count > DELTAS_PER_MESSAGE_MAX) return false;
    const kind = message[at]!;
    const channel = readU32(message, at + 1);
    const length = readU32(message, at + 5);
    at += DELTA_HEADER_BYTES;
    if (kind < deltaKind.text || kind > deltaKind.embeddings || length > message.byteLength - at)
      return false;
    onDelta(kind as DeltaKind, channel, message.subarray(at, at + length));
    at += length;
  }
  return message.byteLength > 0;
}

function readU32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

const toolCallDelta = z.object({
  index: z.number().int().min(0).max(127),
  id: z.string().max(200).optional(),
  type: z.literal("function").optional(),
  function: z.object({ name: z.string().max(256).optional(), arguments: z.string().optional() }).optional(),
});

const tokenLogprob = z.object({
  token: z.string(),
  logprob: z.number(),
  bytes: z.array(z.number().int()).nullable().optional(),
});

/** The payload of a `choice` delta, in OpenAI's words. */
export const choiceDeltaSchema = z.object({
  index: z.number().int().min(0).max(127),
  content: z.string().optional(),
  reasoning: z.string().optional(),
  tool_calls: z.array(toolCallDelta).max(128).optional(),
  logprobs: z
    .object({
      content: z
        .array(tokenLogprob.extend({ top_logprobs: z.array(tokenLogprob).max(20).default([]) }))
        .max(10_000),
    })
    .optional(),
});
export type ChoiceDelta = z.infer<typeof choiceDeltaSchema>;

/** The payload of an `embeddings` delta: one base64 vector of float32 for each input, in order. */
export const embeddingsDeltaSchema = z.object({ vectors: z.array(z.base64()).max(2048) });
export type EmbeddingsDelta = z.infer<typeof embeddingsDeltaSchema>;
