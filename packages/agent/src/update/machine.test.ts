import type { ReleaseFile } from "@gfe/protocol";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Effect,
  type Finding,
  judge,
  NO_RECORD,
  type Phase,
  roleAtStart,
  step,
  TRIES_MAX,
  type UpdateEvent,
} from "./machine.ts";

const file: ReleaseFile = {
  ...{ name: "gfe-linux-x64", os: "linux", arch: "x64", kind: "full" },
  ...{ bytes: 1, compressed_bytes: 1, sha256: "0".repeat(64) },
};
const target = { version: "2.0.0", file };
const newer: Finding = { type: "newer", version: "2.0.0", target };

/** Every effect, in order, of these events after one another. */
function effectsOf(...events: UpdateEvent[]): string[] {
  let phase: Phase = { name: "resting" };
  return events.flatMap((event) => {
    const after = step(phase, event);
    phase = after.phase;
    return after.effects.map(({ type }) => type);
  });
}
const due: UpdateEvent = { type: "due" };
const done: UpdateEvent = { type: "done" };
const failed: UpdateEvent = { type: "failed", reason: "so" };
const found = (finding: Finding, mode: "auto" | "notify" | "off" = "auto"): UpdateEvent => ({
  ...{ type: "found", finding, mode },
});

test("an update drains before it replaces, and proves before it restarts", () => {
  expect(effectsOf(due, found(newer), done, done, done, done)).toEqual([
    ...["check", "download", "drain", "replace", "prove", "restart"],
  ]);
});

test("a new program that does not prove itself is undone, said so, and the old one starts", () => {
  expect(effectsOf(due, found(newer), done, done, done, failed, done)).toEqual([
    ...["check", "download", "drain", "replace", "prove", "undo", "warn", "restart"],
  ]);
});

test("without leave it only tells, and what is refused is only warned of", () => {
  expect(effectsOf(due, found(newer, "notify"))).toEqual(["check", "tell", "rest"]);
  expect(effectsOf(due, found({ ...newer, target: null }))).toEqual(["check", "tell", "rest"]);
  expect(effectsOf(due, found(newer, "off"))).toEqual(["check", "rest"]);
  expect(effectsOf(due, found({ type: "refused", reason: "forged" }))).toEqual(["check", "warn", "rest"]);
  expect(effectsOf(due, found({ type: "current" }))).toEqual(["check", "rest"]);
});

test("whatever happens in whatever order, nothing is replaced that was not found, nor started that failed and was not undone", () => {
  const event = fc.oneof(
    ...[due, done, failed].map((one) => fc.constant(one)),
    fc
      .constantFrom<Finding>(newer, { type: "current" }, { type: "refused", reason: "x" })
      .map((one) => found(one)),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 40 }), (events) => {
      let phase: Phase = { name: "resting" };
      const did: Effect["type"][] = [];
      for (const one of events) {
        const after = step(phase, one);
        phase = after.phase;
        did.push(...after.effects.map(({ type }) => type));
      }
      const order = ["check", "download", "drain", "replace", "prove"] as const;
      for (const [i, effect] of order.entries()) {
        const before = order[i - 1];
        if (before && did.includes(effect)) expect(did.indexOf(before)).toBeLessThan(did.indexOf(effect));
      }
      expect(did.filter((effect) => effect === "restart").length).toBeLessThanOrEqual(1);
      if (did.includes("undo")) expect(did).toContain("prove");
    }),
  );
});

describe("a manifest", () => {
  const manifest = { version: "2.0.0", files: [file] };
  const own = { version: "1.0.0", target: { os: "linux", arch: "x64", kind: "full" } } as const;
  const judged = (changes: Partial<typeof own>, record = NO_RECORD, signedAtS = 100) =>
    judge({ manifest, signedAtS }, record, { ...own, ...changes } as typeof own);

  test("of a later version, with a file for this machine, is an update", () => {
    expect(judged({})).toEqual(newer);
  });

  test("of this version or an earlier one is none: there is no way back", () => {
    for (const version of ["2.0.0", "2.0.1", "10.0.0"] as const)
      expect(judged({ version: version as "1.0.0" })).toEqual({ type: "current" });
  });

  test("that was signed before one seen already is refused, also for a later version", () => {
    expect(judged({}, { ...NO_RECORD, seenSignedAtS: 101 })).toMatchObject({ type: "refused" });
    expect(judged({}, { ...NO_RECORD, seenSignedAtS: 100 })).toEqual(newer);
  });

  test("of a version that failed often is told and not tried; fewer failures are tried again", () => {
    const after = (tries: number, version = "2.0.0") =>
      judged({}, { ...NO_RECORD, failed: { version, tries } });
    expect(after(TRIES_MAX)).toEqual({ ...newer, target: null });
    expect(after(TRIES_MAX - 1)).toEqual(newer);
    expect(after(TRIES_MAX, "1.9.0")).toEqual(newer);
  });

  test("without a file for this machine is only told of", () => {
    expect(
      judge({ manifest, signedAtS: 1 }, NO_RECORD, { ...own, target: { ...own.target, arch: "arm64" } }),
    ).toEqual({
      ...newer,
      target: null,
    });
  });
});

test("a program is on trial while somebody waits for it, and only if it is what is tried", () => {
  const record = { ...NO_RECORD, trial: { from: "1.0.0", to: "2.0.0", untilMs: 500 } };
  expect(roleAtStart(record, "2.0.0", 499)).toBe("on_trial");
  expect(roleAtStart(record, "2.0.0", 500)).toBe("cut_off");
  expect(roleAtStart(record, "1.0.0", 499)).toBe("cut_off");
  expect(roleAtStart(NO_RECORD, "1.0.0", 0)).toBe("ordinary");
});
