/** What runs a model, whatever it is: the agent's one view of Ollama, llama.cpp, vLLM, the built-in engine … */
import type {
  AttemptFailure,
  AttemptStart,
  Capability,
  ChoiceDelta,
  EngineKind,
  FinishReason,
} from "@gfe/protocol";
import type { FaultCode } from "./faults.ts";

/** A model as its engine tells of it. */
export interface DiscoveredModel {
  /** What consumers ask for. */
  name: string;
  /** `sha256:…` */
  digest?: string;
  quantisation?: string;
  parameters?: string;
  contextLength: number;
  capabilities: Capability[];
  /** Attempts that the engine runs at once with this model. */
  slots: number;
  /** Why it is this many, where the engine does not tell and the provider has not said. */
  slotsAssumed?: string;
  /** What computes it, where the engine is our own. */
  compute?: Compute;
}

export interface Compute {
  device: "cuda" | "vulkan" | "metal" | "cpu";
  /** Layers of the model that lie on the GPU, of all that it has. */
  gpuLayers: number;
  layers: number;
  /** What model and context take. */
  gpuMemoryBytes: number;
  memoryBytes: number;
}

export type EngineAttempt = Pick<
  AttemptStart,
  "kind" | "model" | "body" | "whole" | "prefix" | "traceparent"
>;

/** Token counts in the engine's own words; anything not a count is dropped by the runner. */
export interface EngineUsage {
  inputTokens: number;
  outputTokens: number;
  cachedInputTokens?: number;
  reasoningTokens?: number;
}

/** Where an engine puts what it says. Nothing here throws: after the end, calls are ignored. */
export interface EngineSink {
  /** Text of choice 0. */
  text(text: string): void;
  reasoning(text: string): void;
  /** All that is rarer: tool calls, log-probabilities, other choices. */
  choice(delta: ChoiceDelta): void;
  /** Base64 of little-endian float32, one for each input, in order; may be called several times. */
  embeddings(vectors: readonly string[]): void;
  /** A promise where the hub wants no more for now: read on when it resolves. */
  ready(): Promise<void> | undefined;
}

export type EngineOutcome =
  | { type: "done"; finish: FinishReason[]; usage: EngineUsage | null }
  | {
      type: "failed";
      code: AttemptFailure;
      message: string;
      usage: EngineUsage | null;
      /** What it shows to be wrong with the engine or the model, where that is certain. */
      fault?: FaultCode;
    };

export interface Engine {
  readonly kind: EngineKind;
  /** Where it is, for people: `http://127.0.0.1:11434`. */
  readonly label: string;
  /** Rejects when the engine does not answer: EngineGone where nothing listens any more. */
  models(signal?: AbortSignal): Promise<DiscoveredModel[]>;
  /** Rejects only after `signal` is aborted, or on a connection that broke. */
  run(attempt: EngineAttempt, sink: EngineSink, signal: AbortSignal): Promise<EngineOutcome>;
  /** Frees the memory that the model takes, within seconds; the next attempt loads it again. */
  unload?(): Promise<void>;
  /** Frees what the engine holds in this process. */
  close?(): Promise<void>;
  /** Calls back when the engine went away or came back by itself: its models are worth another look. */
  watch?(changed: () => void): void;
}

/** Nothing listens at the engine's address. */
export class EngineGone extends Error {
  constructor(label: string, { words, ...options }: ErrorOptions & { words?: string } = {}) {
    super(words ?? `nothing answers at ${label}`, options);
    this.name = "EngineGone";
  }
}

/** What another node said of the answer, "" where none did. */
export const saidBefore = (prefix: EngineAttempt["prefix"]): string => prefix?.pieces.join("") ?? "";

/** What an engine without a tokeniser of ours may still say of an answer whose beginning is there: at least a token. */
export const tokensLeft = (maxTokens: number, prefix: EngineAttempt["prefix"]): number =>
  Math.max(1, maxTokens - (prefix?.tokens ?? 0));

export const failed = (
  code: AttemptFailure,
  message: string,
  usage: EngineUsage | null = null,
  fault?: FaultCode,
): EngineOutcome => ({ type: "failed", code, message, usage, ...(fault ? { fault } : {}) });

/** A vector as the wire wants it. */
export function encodeVector(values: readonly number[]): string {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  values.forEach((value, index) => {
    view.setFloat32(index * 4, value, true);
  });
  let binary = "";
  for (let at = 0; at < bytes.length; at += 8192)
    binary += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(binary);
}
