/** A world whose engines do what clients of every dialect must cope with: for tests of dialects with real clients. */
import { type Agent, createScriptedEngine, type Engine, type EngineAttempt } from "@gfe/agent";
import type { PriceWire } from "@gfe/protocol";
import { expect } from "vitest";
import { joinAgent, memoryHost } from "./agents.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

export const CREDIT = 1_000_000n;
/** One credit a token out, so that what was delivered can be read off the bill. */
const PER_TOKEN: PriceWire = {
  per_request: "0",
  per_million_input: "0",
  per_million_output: "1000000000000",
};
export const WORDS = ["Once", " upon", " a", " time"];
export const CITIES = [{ city: "Bern" }, { city: "Rome" }];

export interface DialectWorld {
  world: World;
  consumer: Person;
  /** What the engine of `tools` and `thinks` was asked last, in OpenAI's words. */
  asked(): Record<string, unknown>;
  /** What the consumer spent since it had `before`. */
  spentSince(before: bigint): Promise<bigint>;
  /**
   * Calls `abort` with a client that reads `slow`, then waits until its engine was stopped and its hold resolved; what
   * it received was paid, and little more.
   */
  expectAborted(abort: () => Promise<number>): Promise<void>;
  stop(): Promise<void>;
}

/**
 * `words` says four; `dear` costs more than anybody has; `slow` can be aborted; `broken` breaks after three deltas; `tools`
 * calls a tool twice at once, with the pieces mixed, and answers in words once it has results; `thinks` reasons first.
 */
export async function startDialectWorld(): Promise<DialectWorld> {
  const world = await startWorld({ GFE_SIGNUP_CREDITS: "10000", GFE_QUEUE_WAIT_MS: "300" });
  const provider = await world.person("provider");
  const consumer = await world.person("consumer");
  const attempts: EngineAttempt[] = [];
  let aborted = 0;
  const host = memoryHost();
  const engines = [
    createScriptedEngine(host, { models: [{ name: "words" }, { name: "dear" }], text: WORDS }),
    createScriptedEngine(host, {
      models: [{ name: "slow" }],
      deltas: 500,
      paceMs: 20,
      onAborted: () => aborted++,
    }),
    createScriptedEngine(host, { models: [{ name: "broken" }], failure: { type: "break", afterDeltas: 3 } }),
    toolEngine(attempts),
    thinkingEngine(attempts),
  ];
  const dear = { ...PER_TOKEN, per_request: String(20_000n * CREDIT), per_million_output: "0" };
  const prices = { default: PER_TOKEN, byModel: { dear } };
  const agent: Agent = await joinAgent(engines, {
    hubUrl: world.hub.url,
    token: provider.agentToken,
    prices,
  });
  const spentSince = async (before: bigint) => before - (await world.available(consumer));
  return {
    world,
    consumer,
    asked: () => attempts.at(-1)!.body,
    spentSince,
    async expectAborted(abort) {
      const [before, stopped] = [await world.available(consumer), aborted];
      const received = await abort();
      await until(() => aborted === stopped + 1, "the engine was stopped");
      await until(async () => (await world.ledger.openHolds()).length === 0, "the hold is resolved");
      const spent = await spentSince(before);
      expect(spent).toBeGreaterThanOrEqual(BigInt(received) * CREDIT);
      expect(spent).toBeLessThan(BigInt(received + 25) * CREDIT);
    },
    async stop() {
      await agent.stop();
      await world.end();
    },
  };
}

function toolEngine(attempts: EngineAttempt[]): Engine {
  return {
    kind: "scripted",
    label: "calls tools",
    models: async () => [
      {
        name: "tools",
        contextLength: 8192,
        capabilities: ["chat", "tools", "tool_choice", "parallel_tool_calls", "vision", "json_schema"],
        slots: 4,
      },
    ],
    async run(attempt, sink) {
      attempts.push(attempt);
      const messages = attempt.body.messages as { role: string }[];
      if (!attempt.body.tools || messages.some(({ role }) => role === "tool")) {
        for (const word of attempt.body.response_format ? ['{"ok":', "true}"] : WORDS) sink.text(word);
        return {
          type: "done",
          finish: ["stop"],
          usage: { inputTokens: 20, outputTokens: 4, cachedInputTokens: 8 },
        };
      }
      const texts = CITIES.map((city) => JSON.stringify(city));
      for (const index of texts.keys())
        sink.choice({
          index: 0,
          tool_calls: [
            { index, id: `call_${index}`, type: "function", function: { name: "weather", arguments: "" } },
          ],
        });
      for (const [from, to] of [
        [0, 5],
        [5, undefined],
      ] as const)
        for (const [index, text] of texts.entries())
          sink.choice({
            index: 0,
            tool_calls: [{ index, function: { arguments: text.slice(from, to) } }],
          });
      return { type: "done", finish: ["tool_calls"], usage: { inputTokens: 9, outputTokens: 7 } };
    },
  };
}

function thinkingEngine(attempts: EngineAttempt[]): Engine {
  return {
    kind: "scripted",
    label: "thinks",
    models: async () => [
      { name: "thinks", contextLength: 8192, capabilities: ["chat", "reasoning"], slots: 4 },
    ],
    async run(attempt, sink) {
      attempts.push(attempt);
      for (const thought of ["Let me", " think."]) sink.reasoning(thought);
      for (const word of WORDS) sink.text(word);
      return {
        type: "done",
        finish: ["stop"],
        usage: { inputTokens: 9, outputTokens: 6, reasoningTokens: 2 },
      };
    },
  };
}
