/** A node is killed while its built-in engine tells a story: another tells it to its end, word for word. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Person, startWorld, type World } from "./world.ts";

const MAIN = fileURLToPath(new URL("../../cli/src/main.ts", import.meta.url));
const modelPath =
  process.env.GFE_TEST_MODEL ?? resolve(import.meta.dirname, "../../../../shared/models/stories260K.gguf");
const isThere = existsSync(modelPath);
if (!isThere && !process.env.CI)
  console.warn(`\n*** NO NODE IS KILLED ON A REAL MODEL: there is no ${modelPath}; set GFE_TEST_MODEL ***\n`);

const TOKENS = 90;

describe.skipIf(!isThere && !process.env.CI)("on a real model", () => {
  let world: World;
  let provider: Person;
  let openai: OpenAI;
  let directory: string;
  const nodes = new Map<string, ChildProcess>();

  beforeAll(async () => {
    if (!isThere) throw new Error(`there is no ${modelPath}: set GFE_TEST_MODEL to stories260K.gguf`);
    world = await startWorld({ GFE_SIGNUP_CREDITS: "10000" });
    provider = await world.person("provider");
    directory = mkdtempSync(join(tmpdir(), "gfe-killed-"));
    const { key } = await world.person("consumer");
    openai = new OpenAI({ apiKey: key, baseURL: `${world.hub.url}/v1`, maxRetries: 0 });
    await Promise.all([0, 1, 2].map(startNode));
  });
  afterAll(async () => {
    await Promise.all([...nodes.values()].map(killed));
    await world?.end();
    if (directory) rmSync(directory, { recursive: true, force: true });
  });

  async function startNode(n: number): Promise<void> {
    const own = join(directory, `node-${n}`);
    const child = spawn(
      process.execPath,
      [
        ...[MAIN, "up", "--hub", world.hub.url, "--no-detect", "--json"],
        ...["--model-path", modelPath, "--config-dir", own],
        ...(existsSync("/usr/bin/bwrap") ? [] : ["--sandbox", "none"]),
      ],
      {
        env: { PATH: process.env.PATH, HOME: own, GFE_AGENT_TOKEN: provider.agentToken },
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    const nodeId = await new Promise<string>((resolve, reject) => {
      child.once("exit", (code) => reject(new Error(`the agent ended with ${code}`)));
      createInterface({ input: child.stdout }).on("line", (line) => {
        const event = JSON.parse(line) as { type: string; nodeId: string };
        if (event.type === "joined") resolve(event.nodeId);
      });
    });
    nodes.set(nodeId, child);
  }

  const killed = (child: ChildProcess) =>
    new Promise((resolve) => {
      child.once("exit", resolve);
      child.kill("SIGKILL");
    });

  /** Kills the node after so many pieces; 0 kills none. */
  async function tell(killAfter: number) {
    const { data: stream, response } = await openai.chat.completions
      .create({
        model: "stories260K",
        messages: [{ role: "user", content: "Once upon a time" }],
        ...{ temperature: 0, max_tokens: TOKENS, stream: true },
        stream_options: { include_usage: true },
      })
      .withResponse();
    const told = { text: "", finish: "", pieces: 0, nodes: [] as string[] };
    for await (const chunk of stream as AsyncIterable<OpenAI.ChatCompletionChunk>) {
      const [choice] = chunk.choices;
      told.finish = choice?.finish_reason ?? told.finish;
      told.nodes = (chunk as { x_gfe?: { nodes: string[] } }).x_gfe?.nodes ?? told.nodes;
      if (!choice?.delta.content) continue;
      told.text += choice.delta.content;
      if (++told.pieces !== killAfter) continue;
      const nodeId = response.headers.get("x-gfe-provider")!;
      await killed(nodes.get(nodeId)!);
      nodes.delete(nodeId);
    }
    return told;
  }

  it("the story is the one that is told undisturbed, wherever its node was killed", async () => {
    const undisturbed = await tell(0);
    expect(undisturbed).toMatchObject({ finish: "length" });
    for (const killAfter of [1, 30]) {
      const { text, finish } = await tell(killAfter);
      expect([text, finish]).toEqual([undisturbed.text, undisturbed.finish]);
    }
    expect(nodes.size).toBe(1);
  });
});
