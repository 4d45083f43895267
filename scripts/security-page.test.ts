import { existsSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";

it("SECURITY.md names tests and scripts that exist", () => {
  const page = readFileSync(new URL("../SECURITY.md", import.meta.url), "utf8");
  const files = [...page.matchAll(/`((?:packages|scripts)\/[^`]+)`/g)].map(([, file]) => file!);
  expect(files.length).toBeGreaterThan(30);
  expect(files.filter((file) => !existsSync(new URL(`../${file}`, import.meta.url)))).toEqual([]);
});
