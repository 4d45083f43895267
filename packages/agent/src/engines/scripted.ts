/**
 * An engine that runs no model: what it says, how fast and how it breaks is a script. For tests, measures and a demo
 * on a machine without any model; its kind, "scripted", goes with every offer so that nobody takes it for a model.
 */
import type { AttemptFailure, Capability, FinishReason } from "@gfe/protocol";
import { delay, type Host } from "../host.ts";
import {
  type DiscoveredModel,
  type Engine,
  type EngineAttempt,
  type EngineOutcome,
  type EngineSink,
  type EngineUsage,
  encodeVector,
  failed,
  saidBefore,
} from "./engine.ts";
import { inputBytesOf } from "./requests.ts";

const WORDS = "The quick brown fox jumps over the lazy dog and then it rests in the warm sun .".split(" ");
const VECTOR_LENGTH = 8;

export type ScriptedFailure =
  /** Fails before the first delta. */
  | { type: "refuse"; code: AttemptFailure; message: string }
  /** Fails after this many deltas. */
  | { type: "break"; afterDeltas: number }
  /** Says this many deltas and then nothing, until it is aborted. */
  | { type: "hang"; afterDeltas: number }
  /** Reports usage that its text can't support. */
  | { type: "lie"; usage: EngineUsage }
  /** Reports no usage. */
  | { type: "mute" };

export interface Script {
  models?: Partial<DiscoveredModel>[];
  /** How many deltas an answer has; `max_tokens` may cut it short. */
  deltas?: number;
  /** Between two deltas; 0 says all of them at once. */
  paceMs?: number;
  firstDeltaMs?: number;
  /** What it says instead of words about a fox: one delta for each piece. */
  text?: readonly string[];
  finish?: FinishReason;
  failure?: ScriptedFailure | ((attempt: EngineAttempt) => ScriptedFailure | undefined);
  /** Called when an attempt is aborted. */
  onAborted?: (attempt: EngineAttempt) => void;
}

const capabilities: Capability[] = ["chat", "completion", "embedding", "seed", "continuation"];

/** `script` may be changed while it runs: each attempt and each look at the models reads it anew. */
export function createScriptedEngine(host: Pick<Host, "after">, script: Script = {}): Engine {
  return {
    kind: "scripted",
    label: "scripted engine",
    async models() {
      return (script.models ?? [{}]).map((model) => ({
        name: "scripted",
        contextLength: 8192,
        capabilities,
        slots: 4,
        ...model,
      }));
    },
    async run(attempt, sink, signal) {
      try {
        return attempt.kind === "embedding"
          ? await embed(host, script, attempt, sink, signal)
          : await speak(host, script, attempt, sink, signal);
      } catch (error) {
        if (signal.aborted) script.onAborted?.(attempt);
        throw error;
      }
    },
  };
}

async function speak(
  host: Pick<Host, "after">,
  script: Script,
  attempt: EngineAttempt,
  sink: EngineSink,
  signal: AbortSignal,
): Promise<EngineOutcome> {
  const failure = typeof script.failure === "function" ? script.failure(attempt) : script.failure;
  const pieces = piecesOf(script);
  const limit = Number(attempt.body.max_tokens ?? pieces.length);
  const said = saidBefore(attempt.prefix).length;
  const left = behind(pieces.slice(0, limit), said);
  const count = left.length;
  const usage = { inputTokens: Math.ceil(inputBytesOf(attempt.body) / 4), outputTokens: count };
  if (script.firstDeltaMs) await delay(host, script.firstDeltaMs, signal);
  signal.throwIfAborted();
  if (failure?.type === "refuse") return failed(failure.code, failure.message);
  for (let index = 0; index < count; index++) {
    if (index > 0 && script.paceMs) await delay(host, script.paceMs, signal);
    if (failure?.type === "break" && index >= failure.afterDeltas)
      return failed("engine_error", "the script says to break here", { ...usage, outputTokens: index });
    if (failure?.type === "hang" && index >= failure.afterDeltas) await hang(signal);
    sink.text(left[index]!);
    const wait = sink.ready();
    if (wait) await wait;
    signal.throwIfAborted();
  }
  return {
    type: "done",
    finish: [script.finish ?? (limit < pieces.length ? "length" : "stop")],
    usage: failure?.type === "lie" ? failure.usage : failure?.type === "mute" ? null : usage,
  };
}

const piecesOf = ({ text, deltas = 16 }: Script): readonly string[] =>
  text ?? Array.from({ length: deltas }, (_, at) => `${at > 0 ? " " : ""}${WORDS[at % WORDS.length]}`);

/** What comes behind the first `length` characters; a piece may be cut. */
function behind(pieces: readonly string[], length: number): string[] {
  let skip = length;
  return pieces.flatMap((piece) => {
    const rest = piece.slice(skip);
    skip = Math.max(0, skip - piece.length);
    return rest === "" && piece !== "" ? [] : rest;
  });
}

async function embed(
  host: Pick<Host, "after">,
  script: Script,
  attempt: EngineAttempt,
  sink: EngineSink,
  signal: AbortSignal,
): Promise<EngineOutcome> {
  const inputs = [attempt.body.input].flat().map(String);
  if (script.firstDeltaMs) await delay(host, script.firstDeltaMs, signal);
  sink.embeddings(
    inputs.map((input) => {
      const vector = new Array<number>(VECTOR_LENGTH).fill(0);
      for (let at = 0; at < input.length; at++) vector[at % VECTOR_LENGTH]! += input.charCodeAt(at) / 1000;
      return encodeVector(vector);
    }),
  );
  const usage = { inputTokens: Math.ceil(inputBytesOf(attempt.body) / 4), outputTokens: 0 };
  return { type: "done", finish: [], usage };
}

function hang(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
