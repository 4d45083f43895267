/** The machine under an agent: its clocks, its sleep and its disk. What the agent is given of it is a host like any other. */
import { createMemoryFiles, dialNodeSocket, type Files, type Host } from "@gfe/agent";
import type { Random } from "../random.ts";
import type { Clock, Owner } from "./clock.ts";
import type { Network, Place } from "./network.ts";

export type Disk = "fine" | "full" | "read-only";

/** `frozen`: the process stands still and its clock goes on, as with SIGSTOP. `suspended`: its clock stands still, too. */
export type Sleep = "frozen" | "suspended";

interface Timer {
  dueMs: number;
  run: () => void;
  callOff: () => void;
}

export class Machine {
  readonly #clock: Clock;
  readonly #network: Network;
  readonly #place: Place;
  readonly #random: Random;
  readonly #name: string;
  readonly #stored = createMemoryFiles();
  /** The program that runs on it now. */
  #owner: Owner | null = null;
  #timers = new Set<Timer>();
  #lostMs = 0;
  #asleep: { sinceMs: number; how: Sleep } | null = null;
  disk: Disk = "fine";
  #skewMs = 0;
  readonly warnings: string[] = [];

  constructor(clock: Clock, network: Network, place: Place, random: Random, name: string) {
    this.#clock = clock;
    this.#network = network;
    this.#place = place;
    this.#random = random;
    this.#name = name;
  }

  /** Timers that the agent has set and not called off. */
  get timers(): number {
    return this.#timers.size;
  }

  get isAsleep(): boolean {
    return this.#asleep !== null;
  }

  /** A program starts: what one before it had set is gone. */
  boot(owner: Owner): void {
    this.#owner = owner;
    owner.skewMs = this.#skewMs;
    owner.held = this.#asleep ? [] : null;
    this.#timers = new Set();
  }

  /** Sets the wall clock so far from the true time. */
  setWall(skewMs: number): void {
    this.#skewMs = skewMs;
    if (this.#owner) this.#owner.skewMs = skewMs;
  }

  sleep(how: Sleep): void {
    if (this.#asleep) return;
    this.#asleep = { sinceMs: this.#clock.nowMs, how };
    if (this.#owner) this.#owner.held ??= [];
    this.#network.cutOff(this.#place);
    for (const timer of this.#timers) timer.callOff();
  }

  wake(): void {
    if (!this.#asleep || !this.#owner) return;
    const { sinceMs, how } = this.#asleep;
    this.#asleep = null;
    if (how === "suspended") this.#lostMs += this.#clock.nowMs - sinceMs;
    this.#clock.wake(this.#owner);
    for (const timer of this.#timers) this.#arm(timer, this.#owner);
    this.#network.mend(this.#place);
  }

  /** Evenly, but for the time that it slept without counting. */
  nowMs(): number {
    const asleepMs = this.#asleep?.how === "suspended" ? this.#clock.nowMs - this.#asleep.sinceMs : 0;
    return this.#clock.nowMs - this.#lostMs - asleepMs;
  }

  #after(ms: number, run: () => void): () => void {
    const timer: Timer = { dueMs: this.nowMs() + Math.max(1, ms), run, callOff() {} };
    const timers = this.#timers;
    timers.add(timer);
    if (!this.#asleep) this.#arm(timer, this.#clock.owner);
    return () => {
      timers.delete(timer);
      timer.callOff();
    };
  }

  #arm(timer: Timer, owner: Owner): void {
    const timers = this.#timers;
    timer.callOff = this.#clock.after(
      timer.dueMs - this.nowMs(),
      () => {
        timers.delete(timer);
        timer.run();
      },
      owner,
    );
  }

  /** Bytes in the files of a folder. */
  async bytesIn(folder: string): Promise<number> {
    const names = await this.#stored.list(folder);
    const facts = await Promise.all(names.map((name) => this.#stored.facts(`${folder}/${name}`)));
    return facts.reduce((sum, one) => sum + (one?.sizeBytes ?? 0), 0);
  }

  #files(): Files {
    const stored = this.#stored;
    const check = async () => {
      if (this.disk === "full") throw problem("ENOSPC", "no space left on device, write");
      if (this.disk === "read-only") throw problem("EROFS", "read-only file system, open");
    };
    return {
      ...stored,
      write: async (...given) => check().then(() => stored.write(...given)),
      setMode: async (...given) => check().then(() => stored.setMode(...given)),
      rename: async (...given) => check().then(() => stored.rename(...given)),
      remove: async (...given) => check().then(() => stored.remove(...given)),
      async append(...given) {
        await check();
        const writer = await stored.append(...given);
        return { ...writer, write: async (bytes) => check().then(() => writer.write(bytes)) };
      },
    };
  }

  host(): Host {
    const clock = this.#clock;
    return {
      platform: "linux",
      runtime: { name: "simulation", version: "1.0.0", least: "1.0.0" },
      hostName: this.#name,
      env: {},
      directories: { config: "/config", state: "/state" },
      files: this.#files(),
      log: { info() {}, warn: (_fields, message) => void this.warnings.push(message) },
      http: () => Promise.reject(new Error("there is nothing")),
      dial: (url, options, events) =>
        dialNodeSocket(url, { ...options, connect: () => this.#network.connect(this.#place) }, events),
      run: async () => ({ type: "absent" }),
      serve: () => Promise.reject(new Error("there is nobody")),
      terminal: null,
      processId: 1,
      spawn: () => {
        throw new Error("nothing is started here");
      },
      helper: () => null,
      nowMs: () => this.nowMs(),
      after: (ms, callback) => this.#after(ms, callback),
      soon: (callback) => void clock.after(0, callback),
      random: () => this.#random.next(),
    };
  }
}

const problem = (code: string, words: string): Error =>
  Object.assign(new Error(`${code}: ${words}`), { code });
