/**
 * Whether a model on an engine is fit to be offered.
 *
 *   serving ──soft fault──► suspect ──as many in a row as the limit──┐
 *     ▲  ▲                    │  └──an attempt worked──► serving     │
 *     │  └────────────────────┘                                      │
 *     │      └──hard fault (from serving or suspect)─────────────────┤
 *     │                                                              ▼
 *   probe worked ◄── probing ◄──its time has come── withdrawn (fault, until)
 *                       └──────probe failed──────────────► withdrawn, for twice as long
 *
 * Withdrawn again soon after it came back, it stays away for longer each time, up to a bound. A model that only failed
 * requests starts anew once a probe works: the requests may have been at fault, and no consumer shall keep a node away.
 */
import type { Fault, FaultCode } from "./faults.ts";

export const HEALTH_LIMITS = {
  /** Soft faults in a row, after which the offer is withdrawn. */
  softFaults: 3,
  /** Until the first probe. An engine that crashed is often restarted at once, memory is not freed as fast. */
  firstMs: {
    out_of_memory: 30_000,
    crashed: 8_000,
    hung: 30_000,
    model_unavailable: 15_000,
    unreachable: 8_000,
    failing: 15_000,
  } satisfies Record<FaultCode, number>,
  longestMs: 600_000,
  /** Having served this long, it is as if it had never been withdrawn. */
  stableMs: 600_000,
  /** Between two looks whether a probe may be made now. */
  heldMs: 20_000,
  /** How long a probe may take: an engine may have to load the model for it. */
  probeMs: 120_000,
} as const;

export type Health =
  | { state: "serving"; strikes: number; sinceMs: number }
  | { state: "suspect"; strikes: number; sinceMs: number; fault: Fault; faults: number }
  | { state: "withdrawn"; strikes: number; fault: Fault; untilMs: number }
  | { state: "probing"; strikes: number; fault: Fault };

export type HealthEvent =
  | { type: "worked"; atMs: number }
  | { type: "fault"; fault: Fault; isHard: boolean; atMs: number }
  /** Time to look whether a probe is due. */
  | { type: "due"; atMs: number }
  /** Something changed for the better: an engine that was away answers again. */
  | { type: "hope"; atMs: number };

export const healthy = (atMs: number): Health => ({ state: "serving", strikes: 0, sinceMs: atMs });

/** Whether it is offered. */
export const isOffered = ({ state }: Health): boolean => state === "serving" || state === "suspect";

/** How long it stays away; `strikes` counts this time too. */
export const awayMs = (code: FaultCode, strikes: number): number =>
  Math.min(HEALTH_LIMITS.firstMs[code] * 2 ** Math.min(strikes - 1, 20), HEALTH_LIMITS.longestMs);

function withdraw(strikes: number, fault: Fault, atMs: number): Health {
  return { state: "withdrawn", strikes, fault, untilMs: atMs + awayMs(fault.code, strikes) };
}

/** Pure. */
export function nextHealth(health: Health, event: HealthEvent): Health {
  switch (health.state) {
    case "serving":
    case "suspect": {
      if (event.type === "worked")
        return health.state === "serving"
          ? health
          : { state: "serving", strikes: health.strikes, sinceMs: health.sinceMs };
      if (event.type !== "fault") return health;
      const faults = health.state === "suspect" ? health.faults + 1 : 1;
      const { sinceMs } = health;
      const strikes = event.atMs - sinceMs >= HEALTH_LIMITS.stableMs ? 0 : health.strikes;
      if (event.isHard || faults >= HEALTH_LIMITS.softFaults)
        return withdraw(strikes + 1, event.fault, event.atMs);
      return { state: "suspect", strikes, sinceMs, fault: event.fault, faults };
    }
    case "withdrawn":
      // What still ran when it was withdrawn ends like this or that: neither is news.
      if (event.type === "due" && event.atMs >= health.untilMs)
        return { state: "probing", strikes: health.strikes, fault: health.fault };
      if (event.type === "hope" && event.atMs < health.untilMs) return { ...health, untilMs: event.atMs };
      return health;
    case "probing":
      if (event.type === "worked")
        return {
          state: "serving",
          strikes: health.fault.code === "failing" ? 0 : health.strikes,
          sinceMs: event.atMs,
        };
      if (event.type === "fault") return withdraw(health.strikes + 1, event.fault, event.atMs);
      return health;
  }
}
