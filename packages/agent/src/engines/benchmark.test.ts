/** How fast a model is: measured on engines of known pace, on a clock that stands still until it is told to go on. */
import { expect, it } from "vitest";
import { createMemoryFiles } from "../memory-files.ts";
import { attemptId, hubOf, nodeOf } from "../testing/nodes.ts";
import { stillClock } from "../testing/still-clock.ts";
import { BENCHMARK_LIMITS, benchmarkAll, type Speed } from "./benchmark.ts";
import type { DiscoveredModel, Engine } from "./engine.ts";
import { createScriptedEngine, type Script } from "./scripted.ts";

function machine(files = createMemoryFiles()) {
  const clock = stillClock();
  const told: (Speed | number)[] = [];
  return {
    ...{ clock, told, files },
    measure(
      engines: readonly { engine: Engine; models: readonly DiscoveredModel[] }[],
      signal?: AbortSignal,
    ) {
      const host = { ...clock, files, directories: { config: "/c", state: "/s" }, nowMs: clock.nowMs };
      return benchmarkAll(host, engines, {
        onSpeed: (speed) => told.push(speed),
        onMeasuring: (models) => told.push(models),
        signal,
      });
    },
  };
}
const model = (name: string, more: Partial<DiscoveredModel> = {}): DiscoveredModel => ({
  ...{ name, contextLength: 1024, capabilities: ["chat"], slots: 1 },
  ...more,
});
const engineOf = (clock: ReturnType<typeof stillClock>, script: Script, asked: object[] = []): Engine => {
  const engine = createScriptedEngine(clock, script);
  return {
    ...engine,
    run(attempt, sink, signal) {
      asked.push(attempt);
      return engine.run(attempt, sink, signal);
    },
  };
};
/** Lets time go on in small steps, as it does, until the work has ended. */
async function finish(clock: ReturnType<typeof stillClock>, work: Promise<void>): Promise<void> {
  let over = false;
  void work.then(() => {
    over = true;
  });
  while (!over) await clock.go(10);
}

it("tells the time to the first token and the tokens a second, of a loaded model", async () => {
  const { clock, told, measure } = machine();
  const asked: object[] = [];
  const engine = engineOf(clock, { deltas: 500, firstDeltaMs: 200, paceMs: 50 }, asked);
  await finish(clock, measure([{ engine, models: [model("m")] }]));
  expect(told).toMatchObject([1, { model: "m", engine: "scripted engine", ttftMs: 200 }]);
  expect((told[1] as Speed).tokensPerS).toBeCloseTo(20, 0);
  expect(asked).toMatchObject([
    { body: { max_tokens: 1 } },
    { body: { max_tokens: BENCHMARK_LIMITS.outputTokens } },
  ]);
});

it("is measured once: a restart tells it from memory, another digest is another model", async () => {
  const files = createMemoryFiles();
  const before = machine(files);
  const digest = "sha256:1";
  await finish(
    before.clock,
    before.measure([{ engine: engineOf(before.clock, { paceMs: 10 }), models: [model("m", { digest })] }]),
  );
  const after = machine(files);
  const asked: object[] = [];
  const engine = engineOf(after.clock, { paceMs: 10 }, asked);
  await after.measure([{ engine, models: [model("m", { digest })] }]);
  expect(after.told).toEqual(before.told.slice(1));
  expect(asked).toEqual([]);
  await finish(after.clock, after.measure([{ engine, models: [model("m", { digest: "sha256:2" })] }]));
  expect(after.told.slice(1)).toMatchObject([1, { model: "m" }]);
});

it("takes bounded time of engines that hang or fail, tells nothing of those, and goes on with the next", async () => {
  const { clock, told, measure } = machine();
  const deaf: Engine = { ...engineOf(clock, {}), label: "deaf", run: () => new Promise(() => {}) };
  const broken = engineOf(clock, { failure: { type: "refuse", code: "engine_error", message: "no" } });
  const good = { ...engineOf(clock, { paceMs: 10 }), label: "good" };
  const vectors = model("v", { capabilities: ["embedding"] });
  const began = clock.nowMs();
  await finish(
    clock,
    measure([
      { engine: deaf, models: [model("a")] },
      { engine: broken, models: [model("b")] },
      { engine: good, models: [vectors, model("c")] },
      { engine: deaf, models: [model("d"), model("e")] },
    ]),
  );
  expect(told).toMatchObject([5, { model: "c", engine: "good" }]);
  expect(clock.nowMs() - began).toBeLessThanOrEqual(BENCHMARK_LIMITS.totalMs + 20);
  expect(clock.timers).toEqual([]);
});

it("what an unfinished answer said within its time counts", async () => {
  const { clock, told, measure } = machine();
  const engine = engineOf(clock, { firstDeltaMs: 1_000, paceMs: 2_000 });
  await finish(clock, measure([{ engine, models: [model("slow")] }]));
  expect((told[1] as Speed).tokensPerS).toBeCloseTo(0.5, 1);
});

it("a node tells it before it joins, where it was asked for, and its owner may stop it", async () => {
  const hub = await hubOf();
  const { events, host } = await nodeOf(hub, { paceMs: 1 }, { benchmark: true });
  const types = events.map(({ type }) => type);
  expect(types.indexOf("speed")).toBeLessThan(types.indexOf("joined"));
  expect(types).toContain("measuring");
  const again = await nodeOf(hub, { paceMs: 1 }, { benchmark: true, host });
  expect(again.events.map(({ type }) => type)).not.toContain("measuring");
  expect(again.events.map(({ type }) => type)).toContain("speed");

  const stop = new AbortController();
  const options = { benchmark: true, signal: stop.signal, name: attemptId() };
  const onEvent = ({ type }: { type: string }) => type === "measuring" && stop.abort(new Error("enough"));
  const stopped = nodeOf(hub, { failure: { type: "hang", afterDeltas: 1 } }, { ...options, onEvent });
  await expect(stopped).rejects.toThrow("enough");
});
