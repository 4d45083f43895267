/** Withdrawing and restoring, on a clock that stands still until it is told to go on. */
import { expect, it } from "vitest";
import { stillClock } from "../testing/still-clock.ts";
import type { DiscoveredModel, Engine, EngineOutcome } from "./engine.ts";
import { EngineGone, failed } from "./engine.ts";
import type { Verdict } from "./faults.ts";
import { HEALTH_LIMITS } from "./health.ts";
import { createHealthKeeper, type HealthChange } from "./health-keeper.ts";

const done: EngineOutcome = { type: "done", finish: ["length"], usage: null };
const oom = "model requires more system memory (8.4 GiB) than is available (7.7 GiB)";
const hard: Verdict = { type: "fault", fault: { code: "out_of_memory", message: oom }, isHard: true };
const model: DiscoveredModel = { name: "m", contextLength: 1, capabilities: ["chat"], slots: 1 };

function keeperOf(
  answer: () => Promise<EngineOutcome>,
  listed: () => DiscoveredModel | undefined = () => model,
) {
  const host = stillClock();
  const changes: HealthChange[] = [];
  const asked: object[] = [];
  const engine: Engine = {
    ...{ kind: "ollama", label: "http://127.0.0.1:11434", models: async () => [model] },
    run(attempt) {
      asked.push(attempt);
      return answer();
    },
  };
  const keeper = createHealthKeeper({ host, listed, onChange: (change) => changes.push(change) });
  return { host, keeper, engine, changes, asked };
}

it("a model without memory is withdrawn with the reason, and restored once a probe of one token works", async () => {
  let answer = failed("engine_error", oom, null, "out_of_memory");
  const { host, keeper, engine, changes, asked } = keeperOf(async () => answer);
  keeper.report(engine, "m", hard);
  expect(keeper.isOffered(engine, "m")).toBe(false);
  expect(changes).toMatchObject([
    {
      type: "withdrawn",
      withdrawal: { code: "out_of_memory", retryInMs: HEALTH_LIMITS.firstMs.out_of_memory },
    },
  ]);
  expect(keeper.withdrawals()[0]!.reason).toMatch(/too little memory.*smaller model.*8\.4 GiB/);
  await host.go(29_999);
  expect(asked).toHaveLength(0);
  await host.go(1);
  expect(asked).toMatchObject([{ kind: "chat", body: { max_tokens: 1 } }]);
  expect(keeper.isOffered(engine, "m")).toBe(false);
  answer = done as typeof answer;
  await host.go(60_000);
  expect(keeper.isOffered(engine, "m")).toBe(true);
  expect(changes.map(({ type }) => type)).toEqual(["withdrawn", "restored"]);
  expect(keeper.withdrawals()).toEqual([]);
});

it("an engine that hangs at the probe is not waited for without end", async () => {
  const { host, keeper, engine } = keeperOf(() => new Promise(() => {}));
  keeper.report(engine, "m", hard);
  await host.go(30_000);
  expect(keeper.withdrawals()).toMatchObject([{ retryInMs: null }]);
  await host.go(HEALTH_LIMITS.probeMs);
  expect(keeper.withdrawals()).toMatchObject([{ code: "hung", retryInMs: expect.any(Number) }]);
});

it("a probe that finds nobody, or a full house, restores nothing", async () => {
  let answer: () => Promise<EngineOutcome> = () => Promise.reject(new EngineGone("x"));
  const { host, keeper, engine } = keeperOf(() => answer());
  keeper.report(engine, "m", hard);
  await host.go(30_000);
  expect(keeper.withdrawals()).toMatchObject([{ code: "unreachable" }]);
  answer = async () => failed("busy", "server busy");
  await host.go(HEALTH_LIMITS.longestMs);
  expect(keeper.withdrawals()).toMatchObject([{ code: "failing" }]);
});

it("a model that its engine lists no more is not asked of it, and is probed as soon as it is listed again", async () => {
  let listed: DiscoveredModel | undefined;
  const { host, keeper, engine, asked } = keeperOf(
    async () => done,
    () => listed,
  );
  keeper.report(engine, "m", {
    type: "fault",
    fault: { code: "model_unavailable", message: "not found" },
    isHard: true,
  });
  await host.go(HEALTH_LIMITS.firstMs.model_unavailable);
  expect(asked).toHaveLength(0);
  listed = model;
  keeper.hope(engine, "m");
  await host.go(0);
  expect(asked).toHaveLength(1);
  expect(keeper.isOffered(engine, "m")).toBe(true);
});

it("attempts of before the withdrawal change nothing by how they end", async () => {
  const { keeper, engine, changes } = keeperOf(() => new Promise(() => {}));
  keeper.report(engine, "m", hard);
  keeper.report(engine, "m", { type: "worked" });
  keeper.report(engine, "m", hard);
  expect(keeper.isOffered(engine, "m")).toBe(false);
  expect(changes).toHaveLength(1);
});

it("no model is probed while the machine is its owner's, for that would load it", async () => {
  let serving = false;
  const { host, engine, asked } = keeperOf(async () => done);
  const keeper = createHealthKeeper({ host, listed: () => model, mayProbe: () => serving, onChange() {} });
  keeper.report(engine, "m", hard);
  await host.go(600_000);
  expect(asked).toHaveLength(0);
  serving = true;
  await host.go(HEALTH_LIMITS.heldMs);
  expect(keeper.isOffered(engine, "m")).toBe(true);
});

it("leaves no timer behind when it is closed or lets go of an engine", async () => {
  const { host, keeper, engine } = keeperOf(async () => done);
  keeper.report(engine, "m", hard);
  keeper.forget(engine);
  expect(host.timers).toHaveLength(0);
  keeper.report(engine, "m", hard);
  keeper.close();
  expect(host.timers).toHaveLength(0);
});
