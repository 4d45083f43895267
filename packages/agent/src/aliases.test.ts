import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseAliases } from "./aliases.ts";

const parsed = (text: string, before?: ReadonlyMap<string, string>) => {
  const result = parseAliases(text, before);
  return result.type === "aliases" ? Object.fromEntries(result.aliases) : result.message;
};

describe("aliases as a person writes them", () => {
  it("are one or several, and are added to those before", () => {
    expect(parsed("fast=llama3.2:1b")).toEqual({ fast: "llama3.2:1b" });
    expect(parsed(" a = x , b=x", new Map([["c", "y"]]))).toEqual({ a: "x", b: "x", c: "y" });
    expect(parsed("a=x,a=x")).toEqual({ a: "x" });
  });

  it("end at the first =, so that a model's name may have one", () => {
    expect(parsed("a=b=c")).toEqual({ a: "b=c" });
  });

  it.each([
    ["", /"" is no alias/],
    ["fast", /"fast" is no alias/],
    ["=x", /"=x" is no alias/],
    ["a=", /"a=" is no alias/],
    ["a=x,,b=y", /"" is no alias/],
    ["a=x,a=y", /"a" would name two models, x and y/],
    [`${"n".repeat(201)}=x`, /is no alias/],
    [Array.from({ length: 17 }, (_, i) => `a${i}=x`).join(","), /x has more than 16 other names/],
  ])("%j is refused in words", (text, message) => {
    expect(parsed(text)).toMatch(message);
  });

  it("never throw, and never let an alias name two models, whatever is written", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (one, other) => {
        const first = parseAliases(one);
        const before = first.type === "aliases" ? first.aliases : new Map<string, string>();
        const both = parseAliases(other, before);
        if (both.type === "aliases")
          for (const [alias, model] of before) expect(both.aliases.get(alias)).toBe(model);
        expect([...before.keys()].every((alias) => alias !== "" && alias === alias.trim())).toBe(true);
      }),
    );
  });
});
