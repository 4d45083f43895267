/** Reading what another program says, never more than a bound of it. */
import { isTooDeep, JSON_DEPTH_MAX } from "@gfe/protocol";
import type { HttpResponse } from "./host.ts";

export class BodyTooLarge extends Error {
  constructor(limitBytes: number) {
    super(`the answer is larger than ${limitBytes} bytes`);
    this.name = "BodyTooLarge";
  }
}

/** The whole body. Rejects with BodyTooLarge at the bound. */
export async function readText(response: HttpResponse, limitBytes: number): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let size = 0;
  for await (const chunk of response.body) {
    size += chunk.byteLength;
    if (size > limitBytes) {
      response.cancel();
      throw new BodyTooLarge(limitBytes);
    }
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/** The body as JSON; undefined where it is none. */
export async function readJson(response: HttpResponse, limitBytes: number): Promise<unknown> {
  return parseJson(await readText(response, limitBytes));
}

/** What others say wraps what a caller said in a few levels of its own. */
const DEPTH_MAX = 2 * JSON_DEPTH_MAX;

/** Undefined where it is no JSON, or nested beyond reason. */
export function parseJson(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return isTooDeep(value, DEPTH_MAX) ? undefined : value;
  } catch {
    return undefined;
  }
}

const LINE_FEED = 10;

/**
 * The lines of a body, without their ends, empty ones left out. Chunks are cut at line feeds before they are decoded, so a
 * code point that two chunks share arrives in one piece. The lines of one chunk come together. A reader that stops early
 * says itself whether the connection is cut or released.
 */
export async function* readLines(
  response: Pick<HttpResponse, "body">,
  limits: { lineBytes: number; streamBytes: number },
): AsyncGenerator<string[], void, void> {
  const decoder = new TextDecoder();
  let rest: Uint8Array[] = [];
  let restBytes = 0;
  let total = 0;
  for await (const chunk of response.body) {
    total += chunk.byteLength;
    if (total > limits.streamBytes) throw new BodyTooLarge(limits.streamBytes);
    const end = chunk.lastIndexOf(LINE_FEED) + 1;
    if (restBytes + (end === 0 ? chunk.byteLength : chunk.indexOf(LINE_FEED)) > limits.lineBytes)
      throw new BodyTooLarge(limits.lineBytes);
    if (end > 0) {
      // All whole lines of a chunk are decoded at once: a line by itself costs more to decode than to read.
      const whole = chunk.subarray(0, end);
      const lines = linesOf(decoder.decode(rest.length === 0 ? whole : concat([...rest, whole])));
      if (lines.some((line) => line.length > limits.lineBytes)) throw new BodyTooLarge(limits.lineBytes);
      rest = [];
      restBytes = 0;
      if (lines.length > 0) yield lines;
    }
    if (end < chunk.byteLength) {
      rest.push(chunk.slice(end));
      restBytes += chunk.byteLength - end;
    }
  }
  if (restBytes > limits.lineBytes) throw new BodyTooLarge(limits.lineBytes);
  const lines = linesOf(decoder.decode(concat(rest)));
  if (lines.length > 0) yield lines;
}

function linesOf(text: string): string[] {
  const lines = text.split("\n");
  if (text.includes("\r"))
    return lines.map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line)).filter(Boolean);
  return lines.filter(Boolean);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.byteLength;
  }
  return whole;
}
