/** Two attempts beside each other of which the first to say anything has the answer; the other is cancelled. */
import { type ChoiceDelta, type EmbeddingsDelta, GfeError } from "@gfe/protocol";
import type { FlowControl, JobSink, JobStart } from "./types.ts";

type Control = Parameters<FlowControl["attach"]>[0];

/** Where all goes: the caller. */
interface Course {
  sink: JobSink;
  signal: AbortSignal;
  flow: FlowControl | undefined;
}

export class Race {
  readonly #course: Course;
  readonly #lanes: Lane[] = [];
  #winner: Lane | null = null;
  readonly #decided = Promise.withResolvers<void>();

  constructor(course: Course) {
    this.#course = course;
  }

  /** The first is told of to the caller at once, a later one only when it has won. */
  lane(): Lane {
    const lane = new Lane(this, this.#course, this.#lanes.length === 0);
    this.#lanes.push(lane);
    return lane;
  }

  get winner(): Lane | null {
    return this.#winner;
  }

  /** Resolves when somebody has won, or after so many milliseconds. */
  async decidedWithin(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const over = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms);
    });
    await Promise.race([this.#decided.promise, over]);
    clearTimeout(timer);
  }

  /** Whether the lane has the answer: it takes it where nobody has. */
  take(lane: Lane): boolean {
    if (this.#winner) return this.#winner === lane;
    this.#winner = lane;
    for (const other of this.#lanes) if (other !== lane) other.cancel();
    lane.lead();
    this.#decided.resolve();
    return true;
  }
}

/** One attempt's way to the caller. */
export class Lane implements JobSink, FlowControl {
  readonly #race: Race;
  readonly #course: Course;
  readonly #controller = new AbortController();
  readonly signal: AbortSignal;
  #leads: boolean;
  #start: JobStart | null = null;
  #control: Control | null = null;

  constructor(race: Race, course: Course, leads: boolean) {
    this.#race = race;
    this.#course = course;
    this.#leads = leads;
    this.signal = AbortSignal.any([course.signal, this.#controller.signal]);
  }

  get sink(): JobSink {
    return this;
  }

  get flow(): FlowControl {
    return this;
  }

  /** Another has the answer. */
  get lost(): boolean {
    const { winner } = this.#race;
    return winner !== null && winner !== this;
  }

  cancel(): void {
    this.#controller.abort(new GfeError("cancelled", "Another node was faster"));
  }

  /** What was kept back until it won goes on. */
  lead(): void {
    if (this.#leads) return;
    this.#leads = true;
    if (this.#start) this.#course.sink.started?.(this.#start);
    if (this.#control) this.#course.flow?.attach(this.#control);
  }

  started(info: JobStart): void {
    this.#start = info;
    if (this.#leads) this.#course.sink.started?.(info);
  }

  attach(control: Control): void {
    this.#control = control;
    if (this.#leads) this.#course.flow?.attach(control);
  }

  text(text: string): void {
    if (this.#race.take(this)) this.#course.sink.text(text);
  }

  reasoning(text: string): void {
    if (this.#race.take(this)) this.#course.sink.reasoning(text);
  }

  choice(delta: ChoiceDelta): void {
    if (this.#race.take(this)) this.#course.sink.choice(delta);
  }

  embeddings(delta: EmbeddingsDelta): void {
    if (this.#race.take(this)) this.#course.sink.embeddings(delta);
  }
}
