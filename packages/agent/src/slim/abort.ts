/** AbortController and AbortSignal as the core uses them, for an engine without a page or a process around it. */

type Listener = (event: { type: "abort"; target: SlimAbortSignal }) => void;

const abortError = (): Error =>
  Object.assign(new Error("This operation was aborted"), { name: "AbortError" });

let abortSignal: (signal: SlimAbortSignal, reason: unknown) => void;

export class SlimAbortSignal {
  #aborted = false;
  #reason: unknown;
  /** Each listener once, with whether it goes after its call. */
  readonly #listeners = new Map<Listener, boolean>();
  /** Unions that this one is part of; they are told after the listeners. */
  readonly #unions = new Set<SlimAbortSignal>();

  #parts: readonly SlimAbortSignal[] = [];

  static {
    abortSignal = (signal, reason) => signal.#abort(reason);
  }

  static abort(reason: unknown = abortError()): SlimAbortSignal {
    const signal = new SlimAbortSignal();
    signal.#abort(reason);
    return signal;
  }

  static any(signals: Iterable<SlimAbortSignal>): SlimAbortSignal {
    const all = [...signals];
    const done = all.find(({ aborted }) => aborted);
    if (done) return SlimAbortSignal.abort(done.reason);
    const union = new SlimAbortSignal();
    union.#parts = all;
    for (const one of all) one.#unions.add(union);
    return union;
  }

  get aborted(): boolean {
    return this.#aborted;
  }

  get reason(): unknown {
    return this.#reason;
  }

  throwIfAborted(): void {
    if (this.#aborted) throw this.#reason;
  }

  addEventListener(type: string, listener: Listener, options: { once?: boolean } = {}): void {
    if (type === "abort" && !this.#listeners.has(listener))
      this.#listeners.set(listener, options.once === true);
  }

  removeEventListener(type: string, listener: Listener): void {
    if (type === "abort") this.#listeners.delete(listener);
  }

  #abort(reason: unknown): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#reason = reason;
    for (const [listener, once] of [...this.#listeners]) {
      if (!this.#listeners.has(listener)) continue; // removed by one before it
      if (once) this.#listeners.delete(listener);
      listener({ type: "abort", target: this });
    }
    this.#listeners.clear();
    for (const part of this.#parts) part.#unions.delete(this);
    for (const union of [...this.#unions]) union.#abort(reason);
  }
}

export class SlimAbortController {
  readonly signal = new SlimAbortSignal();

  abort(reason: unknown = abortError()): void {
    abortSignal(this.signal, reason);
  }
}
