import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createLines } from "./lines.ts";

let written: string[];
let say: (line: string) => void;
beforeEach(() => {
  vi.useFakeTimers();
  written = [];
  say = createLines((text) => written.push(text));
});
afterEach(() => vi.useRealTimers());

test("a line that comes alone goes at once, those on its heels go together and in order", () => {
  say("one");
  expect(written).toEqual(["one\n"]);
  say("two");
  say("three");
  expect(written).toHaveLength(1);
  vi.advanceTimersByTime(60);
  expect(written).toEqual(["one\n", "two\nthree\n"]);
  vi.advanceTimersByTime(200);
  say("four");
  expect(written.at(-1)).toBe("four\n");
});

test("what is kept back is bounded", () => {
  say("first");
  for (let i = 0; i < 100; i++) say("x".repeat(1000));
  expect(written.join("").length).toBeGreaterThan(60_000);
});

test("nothing is lost at the end of the process", () => {
  say("one");
  say("two");
  process.listeners("exit").at(-1)?.(0);
  expect(written.join("")).toBe("one\ntwo\n");
});
