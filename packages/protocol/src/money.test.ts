import fc from "fast-check";
import { expect, test } from "vitest";
import { formatCredits, MICRO_PER_CREDIT, parseCredits } from "./money.ts";

/** All that fits the twelve whole digits which are read. */
const amounts = fc.bigInt({ min: -(10n ** 18n) + 1n, max: 10n ** 18n - 1n });

test("what is written is read back exactly, whatever the places", () => {
  fc.assert(
    fc.property(amounts, fc.nat(6), (micro, places) => {
      expect(parseCredits(formatCredits(micro, places))).toBe(micro);
    }),
  );
});

test("at least the places asked for are written, never a digit less than the amount has", () => {
  fc.assert(
    fc.property(amounts, fc.nat(6), (micro, places) => {
      const fraction = formatCredits(micro, places).split(".")[1] ?? "";
      expect(fraction.length).toBeGreaterThanOrEqual(places);
      expect(fraction.length).toBeLessThanOrEqual(6);
      expect(fraction.slice(places)).not.toMatch(/0$/);
    }),
  );
});

test.each([
  ["12.5", 12_500_000n],
  ["0", 0n],
  ["-0.000001", -1n],
  [" 1 ", MICRO_PER_CREDIT],
  ["007", 7_000_000n],
  ["999999999999.999999", 10n ** 18n - 1n],
])("%s credits are %s micro-credits", (text, micro) => {
  expect(parseCredits(text)).toBe(micro);
});

test.each([
  "",
  " ",
  "-",
  ".",
  ".5",
  "5.",
  "1e3",
  "0x10",
  "+1",
  "1,5",
  "1_000",
  "--1",
  "0.0000001",
  "NaN",
  "Infinity",
  "1 000",
  "1000000000000",
  "١",
])("%j is no amount", (text) => {
  expect(parseCredits(text)).toBeNull();
});

test("no text makes the parser throw", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => void parseCredits(text)));
});
