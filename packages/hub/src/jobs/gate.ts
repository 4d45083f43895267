/**
 * Keeps an answer back until its hold is durable. A node may start while the hold is still being written, so that the
 * two waits overlap; but nothing is delivered that nobody has paid for yet. What comes meanwhile waits in order, and
 * above PAUSE_LENGTH the node is asked to pause.
 */
import type { ChoiceDelta, EmbeddingsDelta } from "@gfe/protocol";
import type { FlowControl, JobSink, JobStart } from "./types.ts";

/** Characters kept back. A hold takes milliseconds, unless the database is in trouble. */
const PAUSE_LENGTH = 256 * 1024;

type Control = Parameters<FlowControl["attach"]>[0];

export class Gate implements JobSink, FlowControl {
  readonly #sink: JobSink;
  readonly #flow: FlowControl | undefined;
  #waiting: (() => void)[] | null = [];
  #length = 0;
  #paused: Control | null = null;
  #control: Control | null = null;

  constructor(sink: JobSink, flow: FlowControl | undefined) {
    this.#sink = sink;
    this.#flow = flow;
  }

  /** The hold is durable: what waited goes on, and nothing waits any more. */
  open(): void {
    const waiting = this.#waiting ?? [];
    this.#waiting = null;
    for (const pass of waiting) pass();
    this.#paused?.resume();
    this.#paused = null;
  }

  attach(control: Control): void {
    this.#control = control;
    if (this.#waiting === null) return this.#flow?.attach(control);
    this.#waiting.push(() => this.#flow?.attach(control));
  }

  started(info: JobStart): void {
    this.#pass(0, () => this.#sink.started?.(info));
  }

  text(text: string): void {
    if (this.#waiting === null) this.#sink.text(text);
    else this.#pass(text.length, () => this.#sink.text(text));
  }

  reasoning(text: string): void {
    if (this.#waiting === null) this.#sink.reasoning(text);
    else this.#pass(text.length, () => this.#sink.reasoning(text));
  }

  choice(delta: ChoiceDelta): void {
    this.#pass(delta.content?.length ?? 0, () => this.#sink.choice(delta));
  }

  embeddings(delta: EmbeddingsDelta): void {
    const length = delta.vectors.reduce((sum, vector) => sum + vector.length, 0);
    this.#pass(length, () => this.#sink.embeddings(delta));
  }

  #pass(length: number, pass: () => void): void {
    if (this.#waiting === null) return pass();
    this.#waiting.push(pass);
    this.#length += length;
    if (this.#length <= PAUSE_LENGTH || this.#paused === this.#control) return;
    this.#paused = this.#control;
    this.#paused?.pause();
  }
}
