/** Messages that are right, and the smallest changes that make them wrong: fixtures/ is the contract as data. */
import { readdirSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { z } from "zod";
import { agentFrameSchema, hubFrameSchema } from "./frames.ts";
import { announcementSchema, modelOfferSchema, priceSchema } from "./offer.ts";
import { createAgentTokenSchema, createKeySchema, jobSchema, liveEventSchema } from "./rest.ts";
import { receiptSchema, signedReceiptSchema, usageSchema } from "./usage.ts";

const schemas = new Map<string, z.ZodType>(
  Object.entries({
    agentFrameSchema,
    announcementSchema,
    createAgentTokenSchema,
    createKeySchema,
    hubFrameSchema,
    jobSchema,
    liveEventSchema,
    modelOfferSchema,
    priceSchema,
    receiptSchema,
    signedReceiptSchema,
    usageSchema,
  }),
);

interface Group {
  valid: Record<string, unknown>;
  /** `of` a valid one, with a member set or dropped; the fault is found `at` this place. */
  invalid: { name: string; of: string; at: string; set?: Record<string, unknown>; drop?: string }[];
}

const FOLDER = new URL("./fixtures/", import.meta.url);
const groups = readdirSync(FOLDER).flatMap((file) =>
  Object.entries(JSON.parse(readFileSync(new URL(file, FOLDER), "utf8")) as Record<string, Group>),
);

describe.each(groups)("%s", (schemaName, { valid, invalid }) => {
  const schema = schemas.get(schemaName)!;

  test.each(Object.entries(valid))("takes %s", (_name, value) => {
    const parsed = schema.parse(value);
    expect(schema.parse(JSON.parse(JSON.stringify(parsed)))).toEqual(parsed);
  });

  test.each(invalid.map((fixture) => [fixture.name, fixture] as const))("refuses %s", (_name, fixture) => {
    const parsed = schema.safeParse(changed(valid[fixture.of], fixture));
    const places = parsed.error?.issues.map(({ path }) => path.join("."));
    expect(new Set(places)).toEqual(new Set([fixture.at]));
  });

  test("refuses what is no object at all", () => {
    for (const value of [null, undefined, 0, "", "{}", [], true])
      expect(schema.safeParse(value).success).toBe(false);
  });
});

test("whatever stands in a member's place, a message is taken or refused: no schema throws", () => {
  const messages = groups.flatMap(([name, { valid }]) =>
    Object.values(valid).flatMap((value) => pathsOf(value).map((path) => ({ name, value, path }))),
  );
  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.constantFrom("1.5", "-1", "0x1", "1e9", "NaN", " ", "9".repeat(400)),
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...messages),
      fc.oneof(text, fc.jsonValue()),
      ({ name, value, path }, member) => {
        schemas.get(name)!.safeParse(changed(value, { set: { [path]: member } }));
      },
    ),
    { numRuns: 3000 },
  );
});

test("members that only a newer peer knows are dropped, not refused", () => {
  const drain = agentFrameSchema.parse({ type: "drain", draining: true, why: "update" });
  expect(drain).toEqual({ type: "drain", draining: true });
});

test.each([
  "",
  null,
  7,
  "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
  `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nx: y`,
  "0".repeat(1_000_000),
])("a trace that is none is dropped, and its attempt runs: case %#", (traceparent) => {
  const start = {
    type: "attempt.start",
    attempt: "att_1",
    channel: 1,
    kind: "chat",
    model: "m",
    body: {},
    deadline_ms: 1,
  };
  expect(hubFrameSchema.parse({ ...start, traceparent })).toEqual(start);
});

function changed(
  value: unknown,
  { set = {}, drop }: Pick<Group["invalid"][number], "set" | "drop">,
): unknown {
  const copy = structuredClone(value) as Record<string, unknown>;
  for (const [path, member] of Object.entries(set)) holder(copy, path)[lastOf(path)] = member;
  if (drop !== undefined) delete holder(copy, drop)[lastOf(drop)];
  return copy;
}

/** The dotted paths of all members, at every depth. */
function pathsOf(value: unknown, prefix = ""): string[] {
  if (value === null || typeof value !== "object") return [];
  return Object.entries(value).flatMap(([key, member]) => [
    prefix + key,
    ...pathsOf(member, `${prefix}${key}.`),
  ]);
}

const lastOf = (path: string): string => path.split(".").at(-1)!;
const holder = (root: Record<string, unknown>, path: string): Record<string, unknown> =>
  path
    .split(".")
    .slice(0, -1)
    .reduce((at, part) => at[part] as Record<string, unknown>, root);
