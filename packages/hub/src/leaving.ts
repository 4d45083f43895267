/**
 * How a hub leaves others that stay: /readyz says so at once, and until the load balancer has noticed, requests that come
 * are served like any. Its agents move to the others meanwhile, and what runs ends where it began.
 */

/** How often it looks whether all have gone. */
const LOOK_MS = 20;

export interface Leaving {
  /** Until a load balancer has noticed, in milliseconds. */
  noticeMs: number;
  /** Bound on all of it, in milliseconds. */
  drainMs: number;
  /** Jobs that run or wait here. */
  running(): number;
  /** Agents that are still connected. */
  agents(): number;
  /** Asks the agents to go, each at a moment of its own within this time. */
  leave(withinMs: number): void;
}

/** Agents of before `hub.leaving` stay until they are cut off: they are waited for as long as this and no longer. */
const AGENTS_MS = 10_000;

/** Resolves when nothing runs, every agent has gone and the notice is over, or when the time is up; with what is left of it. */
export async function leaveOthers(leaving: Leaving): Promise<number> {
  const { noticeMs, drainMs, running, agents } = leaving;
  const startedMs = performance.now();
  const spentMs = () => performance.now() - startedMs;
  leaving.leave(noticeMs);
  const isOver = () =>
    spentMs() >= noticeMs && running() === 0 && (agents() === 0 || spentMs() >= noticeMs + AGENTS_MS);
  while (!isOver() && spentMs() < drainMs) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  return Math.max(0, drainMs - spentMs());
}
