/**
 * Virtual time for a whole process: timers, `Date` and `performance` tell and keep it, and it moves only from one event
 * to the next. Every event belongs to an owner, a program that runs on it; what a dead owner still had to do is not done,
 * as it is with a process that was killed. Of equal times the earlier entered goes first.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { Heap } from "./heap.ts";

/** When virtual time begins: any moment, as long as it is the same in every run. */
export const START_MS = Date.UTC(2026, 0, 1);

/** A program: the hub as long as it runs, an agent, a caller, the network. */
export class Owner {
  readonly name: string;
  alive = true;
  /** How far its wall clock is from the true time. */
  skewMs = 0;
  /** What falls due while its machine sleeps, in order; null while it is awake. */
  held: (() => void)[] | null = null;

  constructor(name: string) {
    this.name = name;
  }
}

const owners = new AsyncLocalStorage<Owner>();

/** Runs now, and what follows from it, as what that owner does. */
export const runAs = <T>(owner: Owner, run: () => T): T => owners.run(owner, run);

interface Entry {
  atMs: number;
  order: number;
  owner: Owner;
  run: () => void;
  off: boolean;
}

const realImmediate = globalThis.setImmediate;
/** All that is at hand, promises and next ticks included, has been done. */
export const settled = (): Promise<void> => new Promise((resolve) => realImmediate(resolve));

export class Clock {
  nowMs = START_MS;
  /** Events that were run. */
  steps = 0;
  readonly #heap = new Heap<Entry>((a, b) => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order));
  readonly #root = new Owner("simulation");
  #order = 0;

  /** Whose event runs now. */
  get owner(): Owner {
    return owners.getStore() ?? this.#root;
  }

  /** What the wall clock of that program's machine says. */
  get wallMs(): number {
    return this.nowMs + this.owner.skewMs;
  }

  /** Calls back after `delayMs` as `owner`, unless that is dead by then; returns how to call it off. */
  after(delayMs: number, run: () => void, owner: Owner = this.owner): () => void {
    const entry = { atMs: this.nowMs + Math.max(0, delayMs), order: this.#order++, owner, run, off: false };
    this.#heap.push(entry);
    return () => {
      entry.off = true;
    };
  }

  /** Resolves after `delayMs`; never where its owner dies before. */
  sleep(delayMs: number, owner?: Owner): Promise<void> {
    return new Promise((resolve) => void this.after(delayMs, resolve, owner));
  }

  /** What fell due while its machine slept is done now, one after another. */
  wake(owner: Owner): void {
    for (const run of owner.held ?? []) this.after(0, run, owner);
    owner.held = null;
  }

  /** The next event and all that follows from it at once. False where none is left, or none until `untilMs`. */
  async step(untilMs = Number.POSITIVE_INFINITY): Promise<boolean> {
    for (let entry = this.#heap.first; entry; entry = this.#heap.first) {
      if (entry.off || !entry.owner.alive) {
        this.#heap.pop();
        continue;
      }
      if (entry.atMs > untilMs) return false;
      this.#heap.pop();
      this.nowMs = entry.atMs;
      this.steps++;
      const { owner, run } = entry;
      if (owner.held) owner.held.push(run);
      else runAs(owner, run);
      await settled();
      return true;
    }
    return false;
  }
}

/** Puts the process on the clock. Returns how to put it back on the real one. */
export function installClock(clock: Clock, random: () => number): () => void {
  const { Date: RealDate, Math: RealMath, crypto } = globalThis;
  const kept = {
    setTimeout: globalThis.setTimeout,
    setInterval: globalThis.setInterval,
    setImmediate: globalThis.setImmediate,
    clearTimeout: globalThis.clearTimeout,
    clearInterval: globalThis.clearInterval,
    clearImmediate: globalThis.clearImmediate,
    Date: RealDate,
  };
  const realRandom = RealMath.random;
  const stop = (timer: unknown) => timer instanceof Timer && timer.close();
  const fake = {
    setTimeout: (run: Callback, ms = 0, ...args: unknown[]) =>
      new Timer(clock, ms, false, () => run(...args)),
    setInterval: (run: Callback, ms = 0, ...args: unknown[]) =>
      new Timer(clock, ms, true, () => run(...args)),
    setImmediate: (run: Callback, ...args: unknown[]) => new Timer(clock, -1, false, () => run(...args)),
    clearTimeout: stop,
    clearInterval: stop,
    clearImmediate: stop,
    Date: new Proxy(RealDate, {
      construct: (target, args) =>
        Reflect.construct(target, args.length === 0 ? [clock.wallMs] : args) as object,
      get: (target, name) => (name === "now" ? () => clock.wallMs : Reflect.get(target, name)),
    }),
  };
  Object.assign(globalThis, fake);
  RealMath.random = random;
  Object.defineProperty(performance, "now", {
    configurable: true,
    value: () => clock.nowMs - START_MS,
  });
  Object.defineProperty(crypto, "getRandomValues", {
    configurable: true,
    value: <T extends Uint8Array>(bytes: T) => {
      for (let at = 0; at < bytes.length; at++) bytes[at] = Math.floor(random() * 256);
      return bytes;
    },
  });
  return () => {
    Object.assign(globalThis, kept);
    RealMath.random = realRandom;
    Reflect.deleteProperty(performance, "now");
    Reflect.deleteProperty(crypto, "getRandomValues");
  };
}

type Callback = (...args: unknown[]) => void;

/** What `setTimeout` and its kin give. A delay below zero is none, not even the least that timers have. */
class Timer {
  readonly #clock: Clock;
  readonly #owner: Owner;
  readonly #ms: number;
  readonly #repeats: boolean;
  readonly #run: () => void;
  #callOff: () => void = () => {};

  constructor(clock: Clock, ms: number, repeats: boolean, run: () => void) {
    this.#clock = clock;
    this.#owner = clock.owner;
    this.#ms = ms < 0 ? 0 : Math.max(1, Number.isFinite(ms) ? ms : 1);
    this.#repeats = repeats;
    this.#run = run;
    this.#enter();
  }

  #enter(): void {
    const fire = () => {
      if (this.#repeats) this.#enter();
      this.#run();
    };
    this.#callOff = this.#clock.after(this.#ms, fire, this.#owner);
  }

  refresh(): this {
    this.#callOff();
    this.#enter();
    return this;
  }

  close(): this {
    this.#callOff();
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  hasRef(): boolean {
    return true;
  }
}
