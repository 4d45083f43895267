/** A reader of the live stream, as a browser is one: it keeps what came and can wait for what comes. */
import type { LiveEvent } from "@gfe/protocol";
import type { TestHub } from "./test-hub.ts";

export interface Told {
  id: string;
  event: LiveEvent;
}

export class LiveReader {
  readonly told: Told[] = [];
  readonly response: Response;
  readonly #abort: AbortController;
  readonly #listeners = new Set<() => void>();
  readonly #ended: Promise<void>;

  private constructor(response: Response, abort: AbortController) {
    this.response = response;
    this.#abort = abort;
    this.#ended = this.#read().catch(() => {});
  }

  static async open(hub: TestHub, headers: Record<string, string> = {}): Promise<LiveReader> {
    const abort = new AbortController();
    const response = await fetch(`${hub.url}/api/v1/live`, { headers, signal: abort.signal });
    if (response.status !== 200) {
      abort.abort();
      throw new Error(`live answered ${response.status}`);
    }
    return new LiveReader(response, abort);
  }

  get events(): LiveEvent[] {
    return this.told.map(({ event }) => event);
  }

  get lastId(): string {
    return this.told.at(-1)!.id;
  }

  /** Resolves with the first event, past or coming, that fits. */
  event(fits: (event: LiveEvent) => boolean): Promise<LiveEvent> {
    return new Promise((resolve) => {
      const look = () => {
        const found = this.events.find(fits);
        if (!found) return;
        this.#listeners.delete(look);
        resolve(found);
      };
      this.#listeners.add(look);
      look();
    });
  }

  async leave(): Promise<void> {
    this.#abort.abort();
    await this.#ended;
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const chunk of this.response.body!.pipeThrough(
      new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>,
    )) {
      const blocks = (rest + chunk).split("\n\n");
      rest = blocks.pop()!;
      for (const block of blocks) {
        const fields = new Map(
          block.split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2) as [string, string]),
        );
        const data = fields.get("data");
        if (data === undefined) continue;
        const event = JSON.parse(data) as LiveEvent;
        if (fields.get("event") !== event.type) throw new Error(`${fields.get("event")} is ${event.type}`);
        this.told.push({ id: fields.get("id") ?? "", event });
      }
      for (const look of this.#listeners) look();
    }
  }
}
