/** The last that a program said of itself before it ended, for its owner; nothing once it may have read a prompt. */
import { type Child, delay, type Host } from "../host.ts";

const TAIL_CHARACTERS = 4_000;
const WORDS_MAX = 300;
/** Its last words may still be in the pipe when it has ended; what hides from its end may keep the pipe open for ever. */
const LAST_WORDS_MS = 250;
const OUT_OF_MEMORY =
  /out of memory|failed to allocate|cudaMalloc failed|cannot allocate memory|bad_alloc|ErrorOutOf/i;

export interface Tail {
  hush(): void;
  /** Why it ended, in words. */
  reason(end: Awaited<Child["ended"]>): Promise<string>;
}

/** Reads all of `stderr`. */
export function createTail(host: Pick<Host, "after">, stderr: AsyncIterable<Uint8Array>): Tail {
  const decoder = new TextDecoder();
  let text = "";
  let hushed = false;
  const read = (async () => {
    for await (const chunk of stderr)
      text = (text + decoder.decode(chunk, { stream: true })).slice(-TAIL_CHARACTERS);
  })();
  return {
    hush() {
      hushed = true;
      text = "";
    },
    async reason({ exitCode, signal }) {
      await Promise.race([read, delay(host, LAST_WORDS_MS)]);
      if (OUT_OF_MEMORY.test(text)) return "it ran out of memory";
      if (signal === "SIGKILL" || exitCode === 137)
        return "it was killed, as the system does to what takes more memory than it may";
      const how = signal ? `it ended with ${signal}` : `it ended with ${exitCode}`;
      const words = text
        .trim()
        .split("\n")
        .at(-1)
        ?.replace(/\p{Cc}/gu, " ")
        .slice(0, WORDS_MAX);
      return hushed || !words ? how : `${how}: ${words}`;
    },
  };
}
