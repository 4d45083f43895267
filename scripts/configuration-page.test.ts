import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { configurationPage } from "./configuration-page.ts";

it("docs/configuration.md lists the variables that the hub reads", () => {
  expect(readFileSync(new URL("../docs/configuration.md", import.meta.url), "utf8")).toBe(
    configurationPage(),
  );
});
