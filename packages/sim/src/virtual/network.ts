/**
 * A network inside the process. A connection is two ends that keep the order of bytes and hold a fast writer back, as TCP
 * does; how long bytes are on their way is drawn for each piece, so that connections overtake one another. A place may be
 * cut off for a while: what is sent meanwhile arrives afterwards, or the connection is reset before.
 */
import { Duplex } from "node:stream";
import type { Random } from "../random.ts";
import { type Clock, Owner, runAs } from "./clock.ts";

/** Bytes of one direction on their way; above it the writer waits. */
const WINDOW_BYTES = 64 * 1024;

/** Where programs run: how far it is from the hub, and whether anything passes. */
export class Place {
  readonly name: string;
  readonly latencyMs: { min: number; max: number };
  cutOff = false;

  constructor(name: string, latencyMs: { min: number; max: number }) {
    this.name = name;
    this.latencyMs = latencyMs;
  }
}

export class Network {
  readonly #clock: Clock;
  readonly #random: Random;
  /** Nobody's, so that what is on its way arrives whoever dies. */
  readonly #owner = new Owner("network");
  readonly #open = new Set<Connection>();
  #listener: { owner: Owner; accept(end: End): void } | null = null;

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  /** The hub answers from now on, until it dies. */
  listen(owner: Owner, accept: (end: End) => void): void {
    this.#listener = { owner, accept };
  }

  /** Opens a connection to the hub, for whoever runs now; it is refused later where nobody listens. */
  connect(place: Place): End {
    const connection = new Connection(this.#clock, this.#random, place, this.#clock.owner, this.#owner, () =>
      this.#open.delete(connection),
    );
    this.#open.add(connection);
    connection.whenPassing(() => {
      const listener = this.#listener;
      if (!listener?.owner.alive) return connection.near.fail("ECONNREFUSED");
      connection.far.owner = listener.owner;
      runAs(listener.owner, () => listener.accept(connection.far));
    });
    return connection.near;
  }

  /** A program died: its machine's other programs, or its system, reset what it had open. */
  died(owner: Owner): void {
    for (const connection of [...this.#open])
      for (const end of [connection.near, connection.far]) {
        if (end.owner !== owner) continue;
        connection.near.isExcused = true;
        connection.resetFrom(end);
      }
  }

  /** Resets every connection of a place. */
  reset(place: Place): void {
    for (const connection of [...this.#open])
      if (connection.place === place) {
        connection.near.isExcused = true;
        connection.near.fail("ECONNRESET");
        connection.far.fail("ECONNRESET");
      }
  }

  /** Connections that living programs of a place have open. */
  openOf(place: Place): number {
    return [...this.#open].filter(
      ({ place: from, near }) => from === place && near.owner.alive && !near.destroyed,
    ).length;
  }

  /** When all is over: lets go of what the dead left open, which the runtime would keep for ever. */
  close(): void {
    for (const { near, far } of [...this.#open]) {
      near.destroy();
      far.destroy();
    }
  }

  cutOff(place: Place): void {
    place.cutOff = true;
  }

  mend(place: Place): void {
    place.cutOff = false;
    for (const connection of this.#open) if (connection.place === place) connection.mended();
  }
}

/** One side of a connection, for `node:http` and `ws` a socket. */
export class End extends Duplex {
  owner: Owner;
  readonly remoteAddress = "203.0.113.7";
  readonly #direction: Direction;
  /** Whether its loss is the network's doing, or a program's that died. */
  isExcused = false;
  /** What comes to this end. */
  incoming: Direction | null = null;

  constructor(owner: Owner, outgoing: Direction) {
    super({ allowHalfOpen: true });
    this.owner = owner;
    this.#direction = outgoing;
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#direction.send(Buffer.from(chunk), done);
  }

  override _final(done: () => void): void {
    this.#direction.send(null, done);
  }

  override _read(): void {
    this.incoming?.pull();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#direction.reset();
    done(error);
  }

  /** As its own system tells it. */
  fail(code: string): void {
    if (!this.destroyed && this.owner.alive)
      runAs(this.owner, () => this.destroy(Object.assign(new Error(code), { code })));
  }

  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  setTimeout(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
}

class Connection {
  readonly place: Place;
  readonly near: End;
  readonly far: End;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #network: Owner;
  #waiting: (() => void)[] = [];
  #lastMs = 0;

  constructor(
    clock: Clock,
    random: Random,
    place: Place,
    owner: Owner,
    network: Owner,
    onClosed: () => void,
  ) {
    this.place = place;
    this.#clock = clock;
    this.#random = random;
    this.#network = network;
    const there = new Direction(this, clock);
    const back = new Direction(this, clock);
    this.near = new End(owner, there);
    this.far = new End(network, back);
    there.to = this.far;
    back.to = this.near;
    this.far.incoming = there;
    this.near.incoming = back;
    let closed = 0;
    for (const end of [this.near, this.far]) {
      end.on("error", () => {});
      end.once("close", () => ++closed === 2 && onClosed());
    }
  }

  /** Later, and not before all that was sent before; as soon as anything passes, where nothing does now. */
  whenPassing(run: () => void): void {
    const { min, max } = this.place.latencyMs;
    const atMs = Math.max(this.#lastMs, this.#clock.nowMs + min + this.#random.next() * (max - min));
    this.#lastMs = atMs;
    this.#clock.after(
      atMs - this.#clock.nowMs,
      () => {
        if (this.place.cutOff || this.#waiting.length > 0) this.#waiting.push(run);
        else run();
      },
      this.#network,
    );
  }

  mended(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const run of waiting) run();
  }

  resetFrom(end: End): void {
    const other = end === this.near ? this.far : this.near;
    this.whenPassing(() => other.fail("ECONNRESET"));
  }
}

class Direction {
  to!: End;
  readonly #connection: Connection;
  readonly #clock: Clock;
  #inFlight = 0;
  /** Writers' calls that wait for room. */
  #held: (() => void)[] = [];
  readonly #arrived: (Buffer | null)[] = [];
  #isFull = false;
  #isOver = false;

  constructor(connection: Connection, clock: Clock) {
    this.#connection = connection;
    this.#clock = clock;
  }

  send(bytes: Buffer | null, done: () => void): void {
    if (this.#isOver) return done();
    if (bytes === null) this.#isOver = true;
    this.#inFlight += bytes?.byteLength ?? 0;
    const from = this.#clock.owner;
    if (this.#inFlight < WINDOW_BYTES) done();
    else this.#held.push(() => from.alive && runAs(from, done));
    this.#connection.whenPassing(() => {
      this.#arrived.push(bytes);
      this.#hand();
    });
  }

  /** The reader has room again. */
  pull(): void {
    this.#isFull = false;
    if (this.#arrived.length > 0) this.#clock.after(0, () => this.#hand());
  }

  /** The writer is gone without a word: the reader hears of it. */
  reset(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#connection.whenPassing(() => this.to.fail("ECONNRESET"));
  }

  #hand(): void {
    const { to } = this;
    if (to.destroyed || !to.owner.alive) {
      const isUnread = this.#arrived.some((bytes) => bytes !== null);
      this.#arrived.length = 0;
      if (isUnread && to.destroyed) this.#connection.resetFrom(to);
      return this.#free();
    }
    runAs(to.owner, () => {
      while (this.#arrived.length > 0 && !this.#isFull) {
        const bytes = this.#arrived.shift() as Buffer | null;
        this.#inFlight -= bytes?.byteLength ?? 0;
        this.#isFull = !to.push(bytes);
      }
    });
    this.#free();
  }

  #free(): void {
    if (this.#inFlight >= WINDOW_BYTES && !this.to.destroyed) return;
    for (const done of this.#held.splice(0)) done();
  }
}
