/**
 * Server-sent events out of a byte stream (WHATWG HTML, 9.2), whatever way its chunks are cut. Our own few lines: `id`
 * and comments matter to us, and `EventSource` can neither send a header nor tell of a heartbeat.
 */
export interface ServerSentEvent {
  /** `message` where the stream names none. */
  event: string;
  data: string;
  /** The last id seen so far, of this event or an earlier one. */
  id: string | undefined;
}

/** Characters of one event, or of one line; more is refused rather than gathered without end. */
const EVENT_MAX = 16 * 1024 * 1024;

/** What keeping a line costs beside its characters, in characters: an event of empty lines is bounded too. */
const LINE_COST = 16;

/** Yields event by event; `onActivity` hears every chunk, comments too. An event without its blank line is dropped. */
export async function* readEvents(
  body: ReadableStream<Uint8Array>,
  onActivity?: () => void,
): AsyncGenerator<ServerSentEvent> {
  const reader = body
    .pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
    .getReader();
  const gathered = new EventGatherer();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onActivity?.();
      rest += value;
      // A carriage return at the very end may be half of a line's end.
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop()!;
      if (rest.length + gathered.size > EVENT_MAX) throw new Error("an event of the stream has no end");
      for (const line of lines) {
        const event = gathered.line(line);
        if (event) yield event;
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

class EventGatherer {
  #event = "";
  #data: string[] = [];
  #id: string | undefined;
  /** Characters gathered for the event that has not ended yet. */
  size = 0;

  /** Takes the next line; a blank one ends the event and returns it. */
  line(line: string): ServerSentEvent | null {
    if (line === "") return this.#end();
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") {
      this.#data.push(value);
      this.size += value.length + LINE_COST;
    } else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    return null;
  }

  #end(): ServerSentEvent | null {
    const ended =
      this.#data.length > 0
        ? { event: this.#event || "message", data: this.#data.join("\n"), id: this.#id }
        : null;
    this.#event = "";
    this.#data = [];
    this.size = 0;
    return ended;
  }
}
