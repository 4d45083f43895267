import type {
  ChoiceDelta,
  EmbeddingsDelta,
  FinishReason,
  GfeError,
  PriceCapWire,
  Usage,
} from "@gfe/protocol";
import type { Span } from "@gfe/tracing";
import type { Quote } from "../billing/quote.ts";
import type { Steering } from "../market/steering.ts";

export type JobKind = "chat" | "completion" | "embedding";

/** Who waits behind whom where slots are short; a batch waits behind all, and never for ever. */
export type Priority = "interactive" | "standard" | "batch";

/** Where a waiting job stands. */
export interface Place {
  /** 1 is served next. */
  position: number;
  /** Null where the model's rate is not known yet. */
  estimateMs: number | null;
}

/** Who pays. */
export interface Payer {
  userId: string;
  /** Ledger account. */
  account: string;
  keyId?: string;
  budgetAccount?: string;
  /** The most that its key pays. */
  maxPrice?: PriceCapWire;
}

export interface JobRequest {
  kind: JobKind;
  model: string;
  /** Checked, in OpenAI's words. */
  body: Record<string, unknown>;
  payer: Payer;
  /** Bytes of prompt: the bound on what a node may claim as input. */
  inputBytes: number;
  /** Upper bound on input tokens, for the hold. */
  inputTokensMax: number;
  /** What the caller asked for, if it did. */
  maxOutputTokens?: number;
  /** The caller takes nothing before the end. */
  whole: boolean;
  priority: Priority;
  /** Choices asked for (`n`). */
  choices: number;
  /** Capabilities that a node must have. */
  needs: readonly string[];
  /**
   * Called with a completed job before it is paid, so that its answer is safe first. False: nobody takes the answer any
   * more, so nobody pays for it. Must not throw.
   */
  beforeSettling?(outcome: JobOutcome): Promise<boolean>;
  /** What the caller asks of the market: the `provider` object. */
  steering?: Steering;
  /** Of the request that it comes with, where that is traced. */
  span?: Span;
}

export interface JobStart {
  jobId: string;
  nodeId: string;
  nodeName: string;
  /** The most that the job can cost: what is held. */
  capMicro: bigint;
}

/** Where a job's answer goes. Called in order; never after `run` has resolved. */
export interface JobSink {
  /** The job waits for a slot: told after a second of it, and then now and then. Nothing is held yet. */
  queued?(place: Place): void;
  /** The job is held and a node was chosen; called again if another node takes over: the answer begins anew. */
  started?(info: JobStart): void;
  text(text: string): void;
  reasoning(text: string): void;
  choice(delta: ChoiceDelta): void;
  embeddings(delta: EmbeddingsDelta): void;
}

export interface JobOutcome {
  jobId: string;
  state: "completed" | "failed" | "cancelled";
  finish: FinishReason[];
  /** What was billed for. */
  usage: Usage;
  costMicro: bigint;
  feeMicro: bigint;
  /** What it was billed by; of an answer from several nodes, what was held for it. */
  quote: Quote;
  nodeId: string | null;
  nodeName: string | null;
  /** All that said a part of the answer, in that order. */
  nodes: string[];
  ttftMs: number | null;
  /** Present unless completed. */
  error?: GfeError;
}

/** What http and the forerunner's endpoints use of jobs/. */
export interface Jobs {
  /**
   * Runs one job to its end: match, hold, dispatch, relay, settle. Rejects with GfeError only before anything was
   * charged or delivered (no such model, no credit, no slot in time); afterwards the outcome tells.
   * `flow` lets a slow reader hold the node back.
   */
  run(request: JobRequest, sink: JobSink, signal: AbortSignal, flow?: FlowControl): Promise<JobOutcome>;
  /** Jobs between hold and settlement in this process. */
  active(): number;
  /** Refuses new jobs, waits for the running ones up to `graceMs`, then cancels the rest. */
  drain(graceMs: number): Promise<void>;
}

export interface FlowControl {
  /** Called once with the functions that pause and resume the current attempt. */
  attach(control: { pause(): void; resume(): void }): void;
}
