import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Fault, FaultCode } from "./faults.ts";
import {
  awayMs,
  HEALTH_LIMITS,
  type Health,
  type HealthEvent,
  healthy,
  isOffered,
  nextHealth,
} from "./health.ts";

const codes = Object.keys(HEALTH_LIMITS.firstMs) as FaultCode[];
const fault = fc.record({ code: fc.constantFrom(...codes), message: fc.constant("…") });
const event = fc.oneof(
  fc.record({ type: fc.constant("worked" as const) }),
  fc.record({ type: fc.constant("fault" as const), fault, isHard: fc.boolean() }),
  fc.record({ type: fc.constant("due" as const) }),
  fc.record({ type: fc.constant("hope" as const) }),
);
/** Any events, each some time after the one before it. */
const story = fc.array(fc.tuple(event, fc.nat(2 * HEALTH_LIMITS.stableMs)), { maxLength: 60 });

function* tell(events: [object, number][]): Generator<{ before: Health; event: HealthEvent; after: Health }> {
  let health = healthy(0);
  let atMs = 0;
  for (const [one, afterMs] of events) {
    atMs += afterMs;
    const event = { ...one, atMs } as HealthEvent;
    const after = nextHealth(health, event);
    yield { before: health, event, after };
    health = after;
  }
}

const oom: Fault = { code: "out_of_memory", message: "CUDA out of memory" };
const odd: Fault = { code: "failing", message: "oops" };

describe("whatever happens to a model", () => {
  it("it comes back only by a probe that worked, and a probe only when its time has come", () => {
    fc.assert(
      fc.property(story, (events) => {
        for (const { before, event, after } of tell(events)) {
          if (!isOffered(before) && isOffered(after)) {
            expect(before.state).toBe("probing");
            expect(event.type).toBe("worked");
          }
          if (before.state === "withdrawn" && after.state === "probing")
            expect(event.atMs).toBeGreaterThanOrEqual(before.untilMs);
        }
      }),
    );
  });

  it("a hard fault withdraws it at once, and it says why and until when", () => {
    fc.assert(
      fc.property(story, (events) => {
        for (const { before, event, after } of tell(events)) {
          if (event.type !== "fault" || !event.isHard || !isOffered(before)) continue;
          expect(after).toMatchObject({ state: "withdrawn", fault: event.fault });
          if (after.state === "withdrawn") expect(after.untilMs).toBeGreaterThan(event.atMs);
        }
      }),
    );
  });

  it("it is never away for longer than the bound without a probe", () => {
    fc.assert(
      fc.property(story, (events) => {
        for (const { event, after } of tell(events))
          if (after.state === "withdrawn")
            expect(after.untilMs - event.atMs).toBeLessThanOrEqual(HEALTH_LIMITS.longestMs);
      }),
    );
  });

  it("fewer soft faults in a row than the limit never withdraw it", () => {
    fc.assert(
      fc.property(story, (events) => {
        let inARow = 0;
        for (const { before, event, after } of tell(events)) {
          if (!isOffered(before)) inARow = 0;
          else if (event.type === "worked") inARow = 0;
          else if (event.type === "fault") inARow++;
          if (isOffered(before) && !isOffered(after) && event.type === "fault")
            expect(event.isHard || inARow >= HEALTH_LIMITS.softFaults).toBe(true);
        }
      }),
    );
  });
});

describe("a model that", () => {
  const hard = (atMs: number, of = oom): HealthEvent => ({ type: "fault", fault: of, isHard: true, atMs });

  it("fails again at each probe stays away twice as long each time, up to the bound", () => {
    let health = nextHealth(healthy(0), hard(0));
    const away: number[] = [];
    let atMs = 0;
    for (let times = 0; times < 8; times++) {
      if (health.state !== "withdrawn") throw new Error(health.state);
      away.push(health.untilMs - atMs);
      atMs = health.untilMs;
      health = nextHealth(health, { type: "due", atMs });
      health = nextHealth(health, hard(atMs));
    }
    expect(away).toEqual([30_000, 60_000, 120_000, 240_000, 480_000, 600_000, 600_000, 600_000]);
  });

  it("came back and serves for long is as good as new; one that soon fails again is not", () => {
    const back = (sinceMs: number): Health => ({ state: "serving", strikes: 3, sinceMs });
    const again = nextHealth(back(0), hard(1_000));
    const later = nextHealth(back(0), hard(HEALTH_LIMITS.stableMs));
    expect(again).toMatchObject({ untilMs: 1_000 + awayMs("out_of_memory", 4) });
    expect(later).toMatchObject({ untilMs: HEALTH_LIMITS.stableMs + awayMs("out_of_memory", 1) });
  });

  it("only failed requests starts anew once a probe works, so that no consumer keeps it away", () => {
    const probing: Health = { state: "probing", strikes: 9, fault: odd };
    expect(nextHealth(probing, { type: "worked", atMs: 5 })).toEqual(healthy(5));
    expect(nextHealth({ ...probing, fault: oom }, { type: "worked", atMs: 5 })).toMatchObject({ strikes: 9 });
  });

  it("is away is probed at once when its engine answers again", () => {
    const away = nextHealth(healthy(0), hard(0));
    const hoping = nextHealth(away, { type: "hope", atMs: 10 });
    expect(nextHealth(away, { type: "due", atMs: 10 }).state).toBe("withdrawn");
    expect(nextHealth(hoping, { type: "due", atMs: 10 }).state).toBe("probing");
  });
});
