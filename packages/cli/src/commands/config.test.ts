import { configVariables } from "@gfe/hub";
import { describe, expect, test } from "vitest";
import { gfe } from "../testing/gfe.ts";

const check = (env: Record<string, string> = {}, ...args: string[]) => gfe(["config", "check", ...args], env);

describe("a configuration that is right", () => {
  test("is exit status 0, with every variable, what it means and what is in force", async () => {
    const { code, stdout, stderr } = await check({ PORT: "9123" });
    expect([code, stderr]).toEqual([0, ""]);
    for (const { name, meaning } of configVariables) {
      expect(stdout).toContain(name);
      expect(stdout).toContain(meaning);
    }
    expect(stdout).toMatch(/^\* PORT\s+9123 /m);
    expect(stdout).toMatch(/^ {2}GFE_FEE_PERCENT\s+5 /m);
    expect(stdout).toContain("The configuration is valid.");
  });

  test("shows no secret", async () => {
    const env = { GFE_SECRET: "s".repeat(40), DATABASE_URL: "postgresql://u:hunter2@h/db" };
    for (const args of [[], ["--json"]]) {
      const { code, stdout, stderr } = await check(env, ...args);
      expect(code).toBe(0);
      expect(stdout).toContain("(set)");
      expect(stdout + stderr).not.toMatch(/hunter2|ssss/);
    }
  });
});

describe("a configuration that is wrong", () => {
  const env = { PORT: "http", GFE_FEE_PERCENT: "101", GFE_SECRET: "short", GFE_SIGNUP_CREDIT: "5" };

  test("is exit status 1, with every problem by its variable, and what may be a slip", async () => {
    const { code, stdout, stderr } = await check(env);
    expect(code).toBe(1);
    expect(stdout).not.toContain("is valid");
    expect(stderr.trim().split("\n").sort()).toEqual([
      "error: GFE_FEE_PERCENT must be a percentage from 0 to 100, with two decimals at most",
      "error: GFE_SECRET must have at least 32 characters",
      "error: PORT must be a whole number from 0 to 65535",
      "warning: GFE_SIGNUP_CREDIT is not known; did you mean GFE_SIGNUP_CREDITS?",
    ]);
  });

  test("is the same for a program that reads it", async () => {
    const { code, stdout, stderr } = await check(env, "--json");
    expect([code, stderr]).toEqual([1, ""]);
    const told = JSON.parse(stdout);
    expect(told).toMatchObject({
      ok: false,
      problems: [{ variable: "PORT" }, { variable: "GFE_SECRET" }, { variable: "GFE_FEE_PERCENT" }],
      warnings: [{ variable: "GFE_SIGNUP_CREDIT" }],
    });
    expect(told.variables).toContainEqual(
      expect.objectContaining({ name: "PORT", value: "http", set: true }),
    );
  });

  test("keeps a hub from starting, which says the same", async () => {
    const { code, stderr } = await gfe(["hub", "--no-build"], env);
    expect(code).toBe(1);
    for (const variable of ["PORT", "GFE_FEE_PERCENT", "GFE_SECRET"]) expect(stderr).toContain(variable);
    expect(stderr).not.toMatch(/^\s+at /m);
  });
});

test("--json of what is right is one object with every variable", async () => {
  const { code, stdout } = await check({}, "--json");
  expect(code).toBe(0);
  const { ok, problems, warnings, variables } = JSON.parse(stdout);
  expect([ok, problems, warnings]).toEqual([true, [], []]);
  expect(variables.map(({ name }: { name: string }) => name)).toEqual(
    configVariables.map(({ name }) => name),
  );
});
