import { describe, expect, test } from "vitest";
import { type Config, configVariables, parseConfig } from "./config.ts";

function configOf(env: Record<string, string>): Config {
  const result = parseConfig(env);
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.config;
}
const problemsOf = (env: Record<string, string>) => {
  const result = parseConfig(env);
  return result.ok ? [] : result.problems;
};

test("without anything set the hub is for this machine only, at the documented port", () => {
  expect(configOf({})).toMatchObject({
    host: "127.0.0.1",
    port: 8080,
    publicUrl: null,
    databaseUrl: null,
    secret: null,
    signupCreditsMicro: 100_000_000n,
    feeBasisPoints: 500,
    oauth: {},
  });
});

test("every default passes its own check", () => {
  for (const { name, default: fallback, schema } of configVariables)
    expect({ name, ok: schema.safeParse(fallback).success }).toEqual({ name, ok: true });
});

test("an empty variable is as good as none", () => {
  expect(configOf(Object.fromEntries(configVariables.map(({ name }) => [name, ""])))).toEqual(configOf({}));
});

test.each<[string, string, Partial<Config>]>([
  ["PORT", "0", { port: 0 }],
  ["GFE_SIGNUP_CREDITS", "0", { signupCreditsMicro: 0n }],
  ["GFE_SIGNUP_CREDITS", "2.5", { signupCreditsMicro: 2_500_000n }],
  ["GFE_RATE_REQUESTS_PER_MINUTE", "0", { rateRequestsPerMinute: 0 }],
  ["GFE_QUEUE_BATCH_WAIT_MS", "1000", { queueBatchWaitMs: 1000 }],
  ["GFE_FEE_PERCENT", "0", { feeBasisPoints: 0 }],
  ["GFE_FEE_PERCENT", "0.29", { feeBasisPoints: 29 }],
  ["GFE_FEE_PERCENT", "100", { feeBasisPoints: 10_000 }],
  ["GFE_PUBLIC_URL", "https://gpu.example/", { publicUrl: "https://gpu.example" }],
  ["GFE_TRUSTED_PROXIES", "10.0.0.1, fd00::/8", { trustedProxies: ["10.0.0.1", "fd00::/8"] }],
  ["DATABASE_URL", "postgres://u:p@h/db", { databaseUrl: "postgres://u:p@h/db" }],
])("%s=%s is understood", (name, value, expected) => {
  expect(configOf({ [name]: value })).toMatchObject(expected);
});

describe("a bad value is refused by name, with what would be right", () => {
  test.each([
    ["PORT", "99999", "from 0 to 65535"],
    ["PORT", "http", "whole number"],
    ["PORT", " ", "whole number"],
    ["PORT", "80.5", "whole number"],
    ["GFE_QUEUE_MAX", "-1", "whole number"],
    ["GFE_QUEUE_WAIT_MS", "1e3", "whole number"],
    ["GFE_SIGNUP_CREDITS", "-1", "amount of credits"],
    ["GFE_SIGNUP_CREDITS", "lots", "amount of credits"],
    ["GFE_SIGNUP_CREDITS", "0.0000001", "amount of credits"],
    ["GFE_FEE_PERCENT", "101", "from 0 to 100"],
    ["GFE_FEE_PERCENT", "5%", "from 0 to 100"],
    ["GFE_FEE_PERCENT", "0.001", "two decimals"],
    ["GFE_PUBLIC_URL", "gpu.example", "http(s)"],
    ["GFE_PUBLIC_URL", "https://gpu.example/hub", "without a path"],
    ["DATABASE_URL", "mysql://h/db", "postgresql://"],
    ["GFE_SECRET", "short", "32 characters"],
    ["GFE_LOG_LEVEL", "loud", "fatal, error, warn"],
    ["GFE_TRUSTED_PROXIES", "10.0.0.1, my-proxy", "10.0.0.0/8"],
    ["GFE_GOOGLE_URL", "ftp://x", "http(s)"],
  ])("%s=%s", (variable, value, words) => {
    const problems = problemsOf({ [variable]: value });
    expect(problems).toEqual([{ variable, message: expect.stringContaining(words) }]);
  });

  test("all of them at once", () => {
    const problems = problemsOf({ PORT: "x", GFE_FEE_PERCENT: "x", GFE_SECRET: "x" });
    expect(problems.map(({ variable }) => variable)).toEqual(["PORT", "GFE_SECRET", "GFE_FEE_PERCENT"]);
  });

  test("and never repeated, as it may be a secret", () => {
    const problems = problemsOf({ GFE_SECRET: "hunter2", DATABASE_URL: "mysql://u:hunter2@h/db" });
    expect(problems).toHaveLength(2);
    expect(JSON.stringify(problems)).not.toContain("hunter2");
  });
});

describe("sign-in with others", () => {
  test("is on where both id and secret are", () => {
    const { oauth } = configOf({
      GFE_GITHUB_CLIENT_ID: "id",
      GFE_GITHUB_CLIENT_SECRET: "s",
      GFE_GITHUB_URL: "https://git.example/",
    });
    expect(oauth).toEqual({ github: { clientId: "id", clientSecret: "s", url: "https://git.example" } });
  });

  test.each([
    ["GFE_GOOGLE_CLIENT_ID", "GFE_GOOGLE_CLIENT_SECRET"],
    ["GFE_MICROSOFT_CLIENT_SECRET", "GFE_MICROSOFT_CLIENT_ID"],
  ])("%s alone is a mistake: %s is missing", (given, missing) => {
    expect(problemsOf({ [given]: "x" })).toMatchObject([{ variable: missing }]);
  });
});

test("a variable that looks like ours but is not is pointed out, with what may be meant", () => {
  const result = parseConfig({
    GFE_SIGNUP_CREDIT: "5",
    GFE_SOMETHING_ELSE_ALTOGETHER: "1",
    GFE_API_KEY: "x",
    OTHER: "1",
  });
  expect(result.warnings).toEqual([
    { variable: "GFE_SIGNUP_CREDIT", message: "is not known; did you mean GFE_SIGNUP_CREDITS?" },
    { variable: "GFE_SOMETHING_ELSE_ALTOGETHER", message: "is not known" },
  ]);
});

test("what must not be shown is marked as secret", () => {
  const secrets = configVariables.filter(({ secret }) => secret).map(({ name }) => name);
  expect(secrets).toEqual(expect.arrayContaining(["DATABASE_URL", "GFE_SECRET", "GFE_GOOGLE_CLIENT_SECRET"]));
  for (const { name } of configVariables) if (/SECRET$|HEADERS$/.test(name)) expect(secrets).toContain(name);
});
