/** People who ask for stories without end, through whichever hub answers, and write down what they got of each. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Random } from "../random.ts";
import { STORY_MODEL } from "./agent-process.ts";

/** Longer than any bound of the hubs together: who waits as long was forgotten. */
export const HANG_MS = 45_000;
const PAUSE_MS = { answered: 20, away: 100 };

export type End =
  /** All of it, and its end. */
  | "whole"
  /** An error, and no word before it. */
  | "refused"
  /** Some words, and then an error that says so. */
  | "error chunk"
  /** The connection broke, before or in the midst of it. */
  | "cut"
  /** The consumer hung up. */
  | "left"
  /** Nothing came for HANG_MS. */
  | "hung";

export interface Asked {
  consumer: number;
  hub: number;
  stream: boolean;
  maxTokens: number;
  /** Null where the connection broke, or an error came, before the hub named it. */
  jobId: string | null;
  end: End;
  status: number | null;
  /** Of the error; null where there was none. */
  code: string | null;
  text: string;
  beganMs: number;
  endedMs: number;
}

export interface ConsumerOptions {
  at: number;
  key: string;
  hubs: readonly { url: string }[];
  random: Random;
  maxTokens: number;
  /** Asks no more, and resolves when what it asked has ended. */
  stop: AbortSignal;
  onAsked(asked: Asked): void;
}

/** Resolves when it was told to stop and its last answer has ended. */
export async function consume(options: ConsumerOptions): Promise<void> {
  const { hubs, random, stop, onAsked } = options;
  let hub = options.at % hubs.length;
  while (!stop.aborted) {
    const asked = await ask(options, hub);
    onAsked(asked);
    // As behind a balancer: who is away is not asked again at once; and each is asked now and then.
    if (asked.end === "cut" || random.chance(0.1)) hub = (hub + 1) % hubs.length;
    await sleep(asked.end === "whole" || asked.end === "left" ? PAUSE_MS.answered : PAUSE_MS.away);
  }
}

async function ask({ at, key, hubs, random, maxTokens: most }: ConsumerOptions, hub: number): Promise<Asked> {
  const stream = random.chance(0.8);
  const maxTokens = random.int(1, most);
  const leavesAfter = stream && random.chance(0.1) ? random.int(1, maxTokens) : null;
  const asked: Asked = {
    ...{ consumer: at, hub, stream, maxTokens, jobId: null, end: "cut", status: null, code: null },
    ...{ text: "", beganMs: performance.now(), endedMs: 0 },
  };
  const timeout = AbortSignal.timeout(HANG_MS);
  try {
    const response = await fetch(`${hubs[hub]!.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
      body: JSON.stringify({
        ...{ model: STORY_MODEL, stream, max_tokens: maxTokens },
        messages: [{ role: "user", content: "Tell me the story" }],
      }),
      signal: timeout,
    });
    asked.status = response.status;
    asked.jobId = response.headers.get("x-gfe-job");
    if (response.status !== 200) await refused(response, asked);
    else if (stream) await readStream(response, asked, leavesAfter);
    else {
      asked.text = ((await response.json()) as Whole).choices[0]!.message.content;
      asked.end = "whole";
    }
  } catch {
    asked.end = timeout.aborted ? "hung" : "cut";
  }
  asked.endedMs = performance.now();
  return asked;
}

interface Whole {
  choices: { message: { content: string } }[];
}

async function refused(response: Response, asked: Asked): Promise<void> {
  const { error } = (await response.json()) as { error?: { code?: string } };
  asked.code = error?.code ?? "no code";
  asked.end = "refused";
}

/** Throws where the connection breaks. */
async function readStream(response: Response, asked: Asked, leavesAfter: number | null): Promise<void> {
  let rest = "";
  let words = 0;
  for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
    const events = (rest + text).split("\n\n");
    rest = events.pop()!;
    for (const event of events) {
      if (!event.startsWith("data: ")) continue; // a keep-alive
      const data = event.slice("data: ".length);
      if (data === "[DONE]") {
        if (asked.code === null) asked.end = "whole";
        continue;
      }
      const chunk = JSON.parse(data) as Chunk;
      if (chunk.error) {
        asked.code = chunk.error.code ?? "no code";
        asked.end = "error chunk";
      }
      const said = chunk.choices?.[0]?.delta?.content ?? "";
      asked.text += said;
      if (said !== "") words++;
      if (leavesAfter !== null && words >= leavesAfter) {
        asked.end = "left";
        return; // leaving the loop closes the connection
      }
    }
  }
}

interface Chunk {
  error?: { code?: string };
  choices?: { delta?: { content?: string } }[];
}
