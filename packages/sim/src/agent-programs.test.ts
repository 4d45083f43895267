/** The provider's programs, each in its own process, against a real hub: what holds for the one holds for the other. */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import {
  buildFullHere,
  buildSlimHere,
  canBuildFull,
  canBuildSlim,
} from "../../../scripts/agents/test-builds.ts";
import { type AgentProcess, startAgentProcess } from "./agent-process.ts";
import { type PacedEngine, startPacedEngine } from "./paced-engine.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const MAIN = fileURLToPath(new URL("../../cli/src/main.ts", import.meta.url));
const BUILD_MS = 600_000;
const TOKENS = 40;
const ask = (model: string) => ({ model, messages: [{ role: "user" as const, content: "Hello" }] });
const ANSWER = Array.from({ length: TOKENS }, (_, i) => ` w${i}`).join("");

/** The core on Node is tested in all other files: here it is only how its process ends. */
const programs = [
  {
    name: "the agent on Node",
    isThere: true,
    endOnly: true,
    build: async () => [process.execPath, MAIN] as const,
  },
  {
    name: "the slim executable",
    isThere: await canBuildSlim("the slim executable with a hub"),
    endOnly: false,
    build: async () => [await buildSlimHere("agent")] as const,
  },
  {
    name: "the full executable",
    isThere: canBuildFull("the full executable with a hub"),
    endOnly: false,
    build: async () => [await buildFullHere()] as const,
  },
];

for (const { name, isThere, endOnly, build } of programs)
  describe.skipIf(!isThere)(name, () => {
    let world: World;
    let provider: Person;
    let openai: OpenAI;
    let quick: PacedEngine;
    let slow: PacedEngine;
    let program: readonly [string, ...string[]];
    let directory: string;
    const agents: AgentProcess[] = [];

    beforeAll(async () => {
      program = await build();
      world = await startWorld({ GFE_SIGNUP_CREDITS: "10000" });
      directory = mkdtempSync(join(tmpdir(), "gfe-programs-"));
      provider = await world.person("provider");
      const { key } = await world.person("consumer");
      openai = new OpenAI({ apiKey: key, baseURL: `${world.hub.url}/v1`, maxRetries: 0, timeout: 20_000 });
      quick = await startPacedEngine("quick", TOKENS, 0);
      slow = await startPacedEngine("slow", TOKENS, 20);
    }, BUILD_MS);
    afterEach(async () => {
      quick.refuse(0);
      for (const agent of agents.splice(0)) {
        agent.kill("SIGKILL");
        await agent.ended;
      }
      await until(async () => ((await openai.models.list()).data ?? []).length === 0, "no node is left");
    });
    afterAll(async () => {
      await Promise.all([quick?.close(), slow?.close()]);
      await world?.end();
      if (directory) rmSync(directory, { recursive: true, force: true });
      if (program?.length === 1) rmSync(dirname(program[0]), { recursive: true, force: true });
    });

    async function joinNode(home: string, ...engines: PacedEngine[]): Promise<AgentProcess> {
      const agent = await startAgentProcess(program, {
        hubUrl: world.hub.url,
        token: provider.agentToken,
        home: join(directory, home),
        engines: engines.map(({ url }) => url),
      });
      agents.push(agent);
      return agent;
    }

    async function streamed(model: string, signal?: AbortSignal, onPiece: (text: string) => void = () => {}) {
      const stream = await openai.chat.completions.create({ ...ask(model), stream: true }, { signal });
      let text = "";
      for await (const chunk of stream) {
        text += chunk.choices[0]?.delta.content ?? "";
        onPiece(text);
      }
      return text;
    }

    it("lets running answers end when it is asked to leave, and takes no more", async () => {
      const agent = await joinNode("drain", slow);
      let asked = false;
      const text = await streamed("slow", undefined, () => {
        if (!asked) agent.kill("SIGTERM");
        asked = true;
      });
      expect(text).toBe(ANSWER);
      expect(await agent.ended).toEqual({ code: 0, signal: null });
      expect(agent.events.at(-1)).toMatchObject({ type: "ended", reason: { type: "drained" } });
    });

    if (endOnly) return;

    it("serves answers whole and streamed, many at once, and each is paid for", async () => {
      const agent = await joinNode("serves", quick, slow);
      const { choices, usage } = await openai.chat.completions.create(ask("quick"));
      expect(choices[0]?.message.content).toBe(ANSWER);
      expect(usage?.completion_tokens).toBe(TOKENS);
      const answers = await Promise.all(
        Array.from({ length: 8 }, (_, i) => streamed(i % 2 ? "slow" : "quick")),
      );
      expect(new Set(answers)).toEqual(new Set([ANSWER]));
      await until(
        () => agent.events.filter(({ type }) => type === "attempt.ended").length === 9,
        "all ended",
      );
      expect(agent.events.filter(({ type, failure }) => type === "attempt.ended" && failure)).toEqual([]);
      const { body } = await world.call("GET", "/api/v1/jobs?role=provider&limit=20", { as: provider });
      expect(body.jobs.filter((job: { state: string }) => job.state === "completed").length).toBeGreaterThan(
        8,
      );
    });

    it("stops the engine when the consumer leaves", async () => {
      await joinNode("cancel", slow);
      const before = slow.cut;
      const leaving = new AbortController();
      await streamed("slow", leaving.signal, (text) => {
        if (text.includes("w3")) leaving.abort();
      }).catch(() => {});
      await until(() => slow.cut === before + 1 && slow.running === 0, "the engine was told");
    });

    it("joins again by itself when the hub was away, as the same node", async () => {
      const agent = await joinNode("again", quick);
      const from = agent.events.length;
      await world.restart();
      const joined = await agent.told("joined", from);
      expect(joined.nodeId).toBe(agent.nodeId);
      expect(await streamed("quick")).toBe(ANSWER);
    });

    it("hands over to another node where its engine fails before a token, and where it is killed", async () => {
      const broken = await startPacedEngine("quick", TOKENS, 0);
      broken.refuse(500);
      try {
        await joinNode("broken", broken);
        const doomed = await joinNode("doomed", quick);
        await joinNode("left", quick);
        for (let i = 0; i < 4; i++) expect(await streamed("quick")).toBe(ANSWER);
        doomed.kill("SIGKILL");
        await doomed.ended;
        for (let i = 0; i < 4; i++) expect(await streamed("quick")).toBe(ANSWER);
      } finally {
        await broken.close();
      }
    });

    it("is the same node after a restart, and a second with its key is told apart", async () => {
      const first = await joinNode("key", quick);
      first.kill("SIGTERM");
      await first.ended;
      const second = await joinNode("key", quick);
      expect(second.nodeId).toBe(first.nodeId);
      await expect(joinNode("key", quick)).rejects.toThrow("ended with 1"); // one agent a directory
      mkdirSync(join(directory, "copied"));
      copyFileSync(join(directory, "key", "node-key.json"), join(directory, "copied", "node-key.json"));
      const copied = await joinNode("copied", quick);
      expect(copied.nodeId).toBe(first.nodeId);
      expect((await second.ended).code).toBe(1); // replaced
    });
  });
