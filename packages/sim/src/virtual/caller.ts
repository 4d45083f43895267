/** A consumer's program: one request over HTTP on the virtual network, read fast or slowly, to its end or not. */
import { request as httpRequest, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Random } from "../random.ts";
import { Owner } from "./clock.ts";
import type { Place } from "./network.ts";
import type { Answer, RequestRecord } from "./records.ts";
import type { Stage } from "./stage.ts";

export interface Plan {
  atMs: number;
  consumer: string;
  key: string;
  model: string;
  shape: "chat" | "completion";
  stream: boolean;
  maxTokens: number;
  promptLength: number;
  priority: "interactive" | "standard" | "batch";
  hedge: boolean;
  /** After so long the caller hangs up; null for one that stays. */
  hangUpMs: number | null;
  /** Between two reads of a slow caller; null for one that reads all at once. */
  readEveryMs: number | null;
}

export function planOf(
  random: Random,
  atMs: number,
  keys: readonly { user: string; key: string }[],
  models: readonly string[],
): Plan {
  const { user: consumer, key } = random.pick(keys);
  return {
    atMs,
    consumer,
    key,
    model: random.chance(0.03) ? "nobody-has-this" : random.pick(models),
    shape: random.chance(0.8) ? "chat" : "completion",
    stream: random.chance(0.65),
    maxTokens: random.int(1, 40),
    promptLength: random.int(1, 400),
    priority: random.weighted({ interactive: 1, standard: 4, batch: 1 }),
    hedge: random.chance(0.2),
    hangUpMs: random.chance(0.15) ? random.int(0, 4_000) : null,
    readEveryMs: random.chance(0.15) ? random.int(20, 400) : null,
  };
}

const READ_BYTES = 8 * 1024;
const AGAIN_MS = 400;

/** Enters it, and puts on the record what comes of it. */
export function call(stage: Stage, place: Place, plan: Plan, record: RequestRecord): void {
  const { clock, network, records } = stage;
  const conclude = (answer: Answer) => {
    if (record.answer) return;
    record.answer = answer;
    records.note(`${answer.outcome}, ${answer.text.length} characters ${answer.costMicro ?? ""}`);
  };
  const body = JSON.stringify(bodyOf(plan, record.n));

  function send(): void {
    const end = network.connect(place);
    const lost = () => conclude({ outcome: end.isExcused ? "connection lost" : "cut off", text: "" });
    const sent = httpRequest({
      method: "POST",
      path: plan.shape === "chat" ? "/v1/chat/completions" : "/v1/completions",
      host: "hub",
      headers: {
        authorization: `Bearer ${plan.key}`,
        "content-type": "application/json",
        "content-length": Buffer.byteLength(body),
        "x-gfe-priority": plan.priority,
        connection: "close",
      },
      createConnection: () => end as unknown as Socket,
    });
    // A hub that does not run is asked again, as clients do.
    sent.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED" && !record.answer) clock.after(AGAIN_MS, send);
      else lost();
    });
    sent.on("response", (response) =>
      receive(stage, plan, response, conclude, lost, () => record.answer !== null),
    );
    sent.end(body);
    hangUp = () => sent.destroy();
  }

  let hangUp = () => {};
  const begin = () => {
    records.note(`asks for ${plan.model}, ${plan.stream ? "streamed" : "whole"}, ${plan.maxTokens} tokens`);
    send();
    if (plan.hangUpMs === null) return;
    clock.after(plan.hangUpMs, () => {
      if (record.answer) return;
      records.happen("a caller hung up");
      conclude({ outcome: "hung up", text: "" });
      hangUp();
    });
  };
  clock.after(plan.atMs, begin, new Owner(`caller ${record.n}`));
}

function receive(
  stage: Stage,
  plan: Plan,
  response: IncomingMessage,
  conclude: (answer: Answer) => void,
  lost: () => void,
  isLeft: () => boolean,
): void {
  const chunks: Buffer[] = [];
  response.on("error", lost);
  // A response that was destroyed by its reader ends too, without what was not read of it.
  response.on("end", () => {
    if (response.complete && !isLeft()) conclude(answerIn(response, Buffer.concat(chunks).toString("utf8")));
    else lost();
  });
  response.on("close", lost);
  const { readEveryMs } = plan;
  if (readEveryMs === null) {
    response.on("data", (chunk: Buffer) => chunks.push(chunk));
    return;
  }
  stage.records.happen("a caller reads slowly");
  const read = () => {
    const chunk = (response.read(READ_BYTES) ?? response.read()) as Buffer | null;
    if (chunk) chunks.push(chunk);
    if (!response.readableEnded && !response.destroyed) stage.clock.after(readEveryMs, read);
  };
  read();
}

function bodyOf(plan: Plan, n: number): object {
  const prompt = `request ${n} ${"p".repeat(plan.promptLength)}`;
  return {
    model: plan.model,
    max_tokens: plan.maxTokens,
    ...(plan.shape === "chat" ? { messages: [{ role: "user", content: prompt }] } : { prompt }),
    ...(plan.stream ? { stream: true, stream_options: { include_usage: true } } : {}),
    ...(plan.hedge ? { provider: { hedge: true } } : {}),
  };
}

interface Piece {
  error?: { code?: string; type?: string };
  choices?: { delta?: { content?: string }; message?: { content?: string }; text?: string }[];
  x_gfe?: { job_id: string; cost_micro: string };
}

function answerIn(response: IncomingMessage, text: string): Answer {
  const isStream = response.headers["content-type"]?.startsWith("text/event-stream") === true;
  const lines = isStream
    ? text.split("\n").flatMap((line) => (line.startsWith("data: ") ? line.slice(6) : []))
    : [text];
  const isDone = lines.at(-1) === "[DONE]";
  const pieces = lines.filter((line) => line !== "[DONE]").map((line) => JSON.parse(line) as Piece);
  const said = pieces.flatMap(({ choices = [] }) =>
    choices.map(({ delta, message, text: plain }) => delta?.content ?? message?.content ?? plain ?? ""),
  );
  const error = pieces.find((piece) => piece.error)?.error;
  const told = pieces.findLast((piece) => piece.x_gfe)?.x_gfe;
  return {
    outcome: error ? (error.code ?? error.type ?? "error") : isStream && !isDone ? "no end" : "completed",
    text: said.join(""),
    ...(told ? { jobId: told.job_id, costMicro: told.cost_micro } : {}),
  };
}
