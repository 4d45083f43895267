/** A small simulation in the suite, and that the audit would tell where something were wrong. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { createRandom } from "./random.ts";
import { RogueAgent } from "./rogue-agent.ts";
import { planRequest } from "./sim-requests.ts";
import { simulate } from "./simulation.ts";
import { auditProblems, startWorld, type World } from "./world.ts";

const MAIN = fileURLToPath(new URL("./main.ts", import.meta.url));
const SEED = 20261123;
const REQUESTS = 150;

it("after a random market every hold is resolved and the books balance", async () => {
  const progress: number[] = [];
  const report = await simulate({ seed: SEED, jobs: REQUESTS, onProgress: (done) => progress.push(done) });
  expect(report.violations).toEqual([]);
  expect(progress).toEqual(Array.from({ length: REQUESTS }, (_, i) => i + 1));
  expect(Object.values(report.outcomes).reduce((sum, n) => sum + n, 0)).toBe(REQUESTS);
  // Else it says little: what it is about must have happened.
  expect(report.outcomes).toMatchObject({
    completed: expect.any(Number),
    "caller left": expect.any(Number),
    insufficient_quota: expect.any(Number),
  });
  expect([report.bounces, report.cuts]).toEqual([7, 2]);
  expect(Object.keys(report.behaviours).length).toBeGreaterThan(8);
}, 60_000);

describe("npm run sim -- live", () => {
  const sim = (...args: string[]) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
      const child = execFile(process.execPath, [MAIN, "live", ...args], (_error, stdout, stderr) =>
        resolve({ code: child.exitCode!, stdout, stderr }),
      );
    });

  it("reports in one JSON object, names its seed and ends with 0 where all is well", async () => {
    const { code, stdout, stderr } = await sim("--seed", "7", "--jobs", "20", "--json");
    expect([code, stderr]).toEqual([0, ""]);
    expect(JSON.parse(stdout)).toMatchObject({ seed: 7, requests: 20, violations: [] });
  });

  it("tells how it is used where it is not understood", async () => {
    for (const args of [["--seed", "x"], ["--surprise"]]) {
      const { code, stderr } = await sim(...args);
      expect([code, stderr]).toEqual([2, expect.stringContaining("Usage")]);
    }
  });
});

describe("randomness", () => {
  it("the same seed makes the same plans, another seed others", () => {
    const plans = (seed: number) => {
      const random = createRandom(seed);
      return Array.from({ length: 50 }, () => planRequest(random, 8, ["a", "b"]));
    };
    expect(plans(SEED)).toEqual(plans(SEED));
    expect(plans(SEED)).not.toEqual(plans(SEED + 1));
  });

  it("numbers are spread over their range, both ends included, and by weight", () => {
    const random = createRandom(1);
    const drawn = Array.from({ length: 1000 }, () => random.int(3, 5));
    expect(new Set(drawn)).toEqual(new Set([3, 4, 5]));
    const heavy = Array.from({ length: 1000 }, () => random.weighted({ often: 9, rarely: 1, never: 0 }));
    expect(heavy.filter((name) => name === "rarely").length).toBeGreaterThan(50);
    expect(heavy.filter((name) => name === "rarely").length).toBeLessThan(200);
    expect(heavy).not.toContain("never");
  });
});

describe("the audit tells of", () => {
  let world: World;
  afterEach(() => world.stop());

  it.each([
    ["a job that says another cost than was paid", "UPDATE jobs SET cost_micro = cost_micro + 1"],
    ["a job that was paid and says it runs", "UPDATE jobs SET state = 'running'"],
    ["a job whose row is gone and whose hold is there", "UPDATE jobs SET id = id || 'x'"],
    ["a job that paid its own consumer", "UPDATE jobs SET provider_id = consumer_id"],
    ["an attempt that was paid for more than it earned", "UPDATE attempts SET cost_micro = cost_micro - 1"],
    [
      "a balance that no transfer explains",
      "UPDATE ledger_accounts SET posted = posted + 1 WHERE kind = 'consumer'",
    ],
  ])("%s", async (_what, sql) => {
    world = await startWorld();
    const [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
    await RogueAgent.join({ hubUrl: world.hub.url, token: provider.agentToken });
    const { status } = await world.call("POST", "/v1/chat/completions", {
      as: consumer,
      body: { model: "m", messages: [{ role: "user", content: "hi" }], max_tokens: 5 },
    });
    expect(status).toBe(200);
    expect(await auditProblems(world.pool, world.ledger)).toEqual([]);
    await world.pool.query(sql);
    expect(await auditProblems(world.pool, world.ledger)).not.toEqual([]);
  });
});
