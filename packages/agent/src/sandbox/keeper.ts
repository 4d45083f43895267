/**
 * Keeps a program of the agent's running.
 *
 *   resting ──use()──► starting ──ready──► up
 *      ▲                  │                 │ it ends
 *      │ rest()           └── it ends ──► waiting ──back-off──► starting
 *      └── from everywhere
 */
import { EngineGone } from "../engines/engine.ts";
import type { Child, Host } from "../host.ts";
import { createTail } from "./tail.ts";

export const KEEPER_LIMITS = {
  firstMs: 1_000,
  longestMs: 60_000,
  /** Up for so long, it starts with the shortest wait again. */
  stableMs: 60_000,
} as const;

export interface KeeperOptions<Session> {
  host: Pick<Host, "after" | "nowMs">;
  /** For errors: what it is. */
  label: string;
  start(): Promise<Child>;
  /**
   * Speaks with the program from its start; resolves when it can be used. It reads all of `stdout`. Rejects where the
   * program says why it can't be.
   */
  open(child: Child): Promise<Session>;
  /** It went up, or down by itself. */
  onChange(): void;
}

export interface Keeper<Session> {
  /** Starts the program where it rests. Rejects with EngineGone while it is down. */
  use(): Promise<Session>;
  /** The program where it runs, without starting it. */
  readonly current: Session | null;
  /** From now on nothing that the program says is told to anybody: it may have read a prompt. */
  hush(): void;
  /** Ends the program; all that it held is free when this resolves. */
  rest(): Promise<void>;
}

export function createKeeper<Session>(options: KeeperOptions<Session>): Keeper<Session> {
  const { host, label } = options;
  let child: Child | null = null;
  let current: Session | null = null;
  let starting: Promise<Session> | null = null;
  let failure: EngineGone | null = null;
  let waitMs: number = KEEPER_LIMITS.firstMs;
  let callOff = () => {};
  let hush = () => {};
  /** Counts the programs: what an earlier one does concerns nobody. */
  let generation = 0;

  async function start(): Promise<Session> {
    const own = ++generation;
    const startedMs = host.nowMs();
    try {
      const started = await options.start();
      if (own !== generation) {
        started.kill();
        throw new EngineGone(label);
      }
      child = started;
      const tail = createTail(host, started.stderr);
      hush = tail.hush;
      const gone = started.ended.then(async (end): Promise<never> => {
        throw new EngineGone(label, { cause: new Error(await tail.reason(end)) });
      });
      gone.catch((error: EngineGone) => fell(own, startedMs, error));
      const session = await Promise.race([options.open(started), gone]);
      if (own !== generation) throw new EngineGone(label);
      current = session;
      if (failure) host.after(0, options.onChange);
      failure = null;
      return session;
    } catch (error) {
      if (own === generation) child?.kill();
      fell(own, startedMs, error);
      throw failure ?? error;
    }
  }

  function fell(own: number, startedMs: number, error: unknown): void {
    if (own !== generation) return;
    generation++;
    const wasUp = current !== null;
    if (wasUp && host.nowMs() - startedMs >= KEEPER_LIMITS.stableMs) waitMs = KEEPER_LIMITS.firstMs;
    child = null;
    current = null;
    starting = null;
    failure = told(error);
    callOff = host.after(waitMs, () => void use(true).catch(() => {}));
    waitMs = Math.min(waitMs * 2, KEEPER_LIMITS.longestMs);
    if (wasUp) options.onChange();
  }

  function told(error: unknown): EngineGone {
    const reason = error instanceof EngineGone ? error.cause : error;
    const words = reason instanceof Error ? reason.message : "it ended";
    return new EngineGone(label, {
      cause: reason,
      words: `${words}; it is started again in ${waitMs / 1000} s`,
    });
  }

  function use(again = false): Promise<Session> {
    if (failure && !again && !starting) return Promise.reject(failure);
    starting ??= start();
    return starting;
  }

  return {
    use: () => use(),
    get current() {
      return current;
    },
    hush: () => hush(),
    async rest() {
      generation++;
      callOff();
      const ending = child;
      child = null;
      current = null;
      starting = null;
      failure = null;
      waitMs = KEEPER_LIMITS.firstMs;
      ending?.kill();
      await ending?.ended;
    },
  };
}
