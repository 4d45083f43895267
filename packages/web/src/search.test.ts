import { expect, it } from "vitest";
import { parseSearch, stringifySearch } from "./search.ts";

it("leaves a device's code as it is, even where it looks like a number", () => {
  expect(parseSearch("?user_code=24681357")).toEqual({ user_code: "24681357" });
  expect(parseSearch("?user_code=2E345678")).toEqual({ user_code: "2E345678" });
});

it("writes what it reads, and nothing for what is absent", () => {
  const search = { back: "/device?user_code=ABCD-1234&x=ü" };
  expect(parseSearch(stringifySearch({ ...search, error: undefined }))).toEqual(search);
  expect(stringifySearch({})).toBe("");
});
