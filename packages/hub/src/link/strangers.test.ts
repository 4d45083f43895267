import { expect, test } from "vitest";
import { createStrangers, STRANGERS_PER_ADDRESS_MAX } from "./strangers.ts";

test("10,000 sockets of one address are met to the limit, those of another all the same, and all again once they are known", () => {
  const meet = createStrangers();
  const met = Array.from({ length: 10_000 }, () => meet("203.0.113.1"));
  expect(met.filter((known) => known !== null)).toHaveLength(STRANGERS_PER_ADDRESS_MAX);
  expect(meet("203.0.113.2")).not.toBeNull();
  // Known, and then closed: counted off once.
  met[0]!();
  met[0]!();
  expect(meet("203.0.113.1")).not.toBeNull();
  expect(meet("203.0.113.1")).toBeNull();
  for (const known of met) known?.();
  expect(Array.from({ length: 10 }, () => meet("203.0.113.1"))).not.toContain(null);
});

test("of no address that is known, any number is met: a proxy's are everybody's", () => {
  const meet = createStrangers();
  expect(Array.from({ length: 1_000 }, () => meet(null))).not.toContain(null);
});
