import fc from "fast-check";
import { expect, test } from "vitest";
import { isTooDeep, JSON_DEPTH_MAX } from "./depth.ts";

const nested = (levels: number, [open, close]: [string, string]): unknown =>
  JSON.parse(`${open.repeat(levels)}1${close.repeat(levels)}`);

test.each<[string, string]>([
  ["[", "]"],
  ['{"a":', "}"],
  ['[0,{"b":"","a":', "}]"],
])("levels are counted to the bound, and 200,000 break nothing: %s", (...shape) => {
  const perRepeat = shape[0].startsWith("[0") ? 2 : 1;
  expect(isTooDeep(nested(JSON_DEPTH_MAX / perRepeat, shape))).toBe(false);
  expect(isTooDeep(nested(JSON_DEPTH_MAX / perRepeat + 1, shape))).toBe(true);
  expect(isTooDeep(nested(200_000, shape))).toBe(true);
});

test("no value whose levels are few is refused, however wide it is", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 8 }), (value) => void expect(isTooDeep(value, 9)).toBe(false)),
  );
  expect(isTooDeep(Array.from({ length: 100_000 }, () => [[]]))).toBe(false);
});
