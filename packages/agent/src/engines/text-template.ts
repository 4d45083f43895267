/**
 * Chunks of one stream differ in nothing but the text they bring. Once a chunk has been understood, what stands before
 * and behind its text is remembered; of the next one with the same surroundings only the text is read, which costs
 * half as much. A string in place of a string leaves the rest of a JSON text what it was, so nothing can be misread: what
 * stands between must itself be one JSON string.
 */
import { parseJson } from "../body.ts";

/** Chunks in a row that fit no template, after which none is made any more: an engine whose every chunk differs. */
const MISSES_MAX = 8;
/** What a JSON string cannot have as it is: a string without any of it stands for itself. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: those are what JSON forbids.
const SPECIAL = /["\\\u0000-\u001f]/;
const KEY = '"content":';
const PROBE = "\u0000probe";

export interface TextTemplate {
  /** The text of a chunk that is like the one before; null where it has to be parsed. */
  textOf(data: string): string | null;
  /** Learns from a chunk that was parsed. */
  learn(data: string, chunk: object): void;
}

/** `plainText`: the text of a chunk that brings nothing but text of choice 0, else null. */
export function createTextTemplate(plainText: (chunk: object) => string | null): TextTemplate {
  let head = "";
  let tail = "";
  let misses = 0;

  return {
    textOf(data) {
      if (head === "" || !data.startsWith(head) || !data.endsWith(tail)) return null;
      const from = head.length;
      const to = data.length - tail.length;
      if (to - from < 2 || data.charCodeAt(from) !== QUOTE || data.charCodeAt(to - 1) !== QUOTE) return null;
      misses = 0;
      const literal = data.slice(from + 1, to - 1);
      if (!SPECIAL.test(literal)) return literal;
      try {
        const text: unknown = JSON.parse(data.slice(from, to));
        return typeof text === "string" ? text : null;
      } catch {
        return null;
      }
    },
    learn(data, chunk) {
      const said = misses < MISSES_MAX ? plainText(chunk) : null;
      if (said === null || said === PROBE) return;
      misses++;
      const from = data.indexOf(KEY) + KEY.length;
      const to = endOfString(data, from);
      if (from < KEY.length || to === -1) return;
      const [before, behind] = [data.slice(0, from), data.slice(to)];
      const probed = parseJson(`${before}${JSON.stringify(PROBE)}${behind}`);
      if (typeof probed !== "object" || probed === null || plainText(probed) !== PROBE) return;
      head = before;
      tail = behind;
    },
  };
}

const QUOTE = 34;
const BACKSLASH = 92;

/** Where the JSON string that begins at `from` has ended; -1 where none begins there. */
function endOfString(text: string, from: number): number {
  if (text.charCodeAt(from) !== QUOTE) return -1;
  for (let at = from + 1; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === BACKSLASH) at++;
    else if (code === QUOTE) return at + 1;
  }
  return -1;
}
