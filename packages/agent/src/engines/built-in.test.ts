import { existsSync } from "node:fs";
import { copyFile, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Child, Host } from "../host.ts";
import { listModels } from "../models/library.ts";
import { createNodeHost } from "../node-host.ts";
import { describeSandbox } from "../sandbox/open.ts";
import type { SandboxSettings } from "../sandbox/sandbox.ts";
import { collect } from "../testing/collect.ts";
import { attemptId, hubOf, nodeOf } from "../testing/nodes.ts";
import { createBuiltInEngine } from "./built-in.ts";
import { type Engine, EngineGone } from "./engine.ts";
import { inTurn } from "./in-turn.ts";

const modelPath =
  process.env.GFE_TEST_MODEL ?? resolve(import.meta.dirname, "../../../../../shared/models/stories260K.gguf");
const isThere = existsSync(modelPath);
if (!isThere && process.env.CI !== "true")
  console.warn(
    `\n*** THE BUILT-IN ENGINE IS NOT TESTED: there is no ${modelPath}; set GFE_TEST_MODEL to stories260K.gguf ***\n`,
  );

const STORY = ", there was a little girl named Lily. She loved to play outside in the park.";

describe.skipIf(!isThere && process.env.CI !== "true")("the built-in engine, on a real model", () => {
  let engine: Engine;
  let host: Host;
  let directory: string;
  let sandbox: SandboxSettings;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "gfe-built-in-"));
    host = createNodeHost({ configDir: join(directory, "config"), stateDir: join(directory, "state") });
    const confined = (await describeSandbox(host)).status !== null || process.env.CI === "true";
    if (!confined)
      console.warn("\n*** THE BUILT-IN ENGINE IS TESTED WITHOUT A SANDBOX: there is none here ***\n");
    sandbox = confined ? {} : { kind: "none" };
    engine = createBuiltInEngine({ host, modelPath, slots: 2, embeddings: true, sandbox });
    await engine.models();
  });
  afterAll(async () => {
    await engine?.close?.();
    if (directory) await rm(directory, { recursive: true, force: true });
  });

  const never = () => new AbortController().signal;
  const completion = (body: object) => ({
    kind: "completion" as const,
    model: "stories260K",
    body: { prompt: "Once upon a time", temperature: 0, ...body },
  });

  it("tells what the model is, by the file itself", async () => {
    expect(await engine.models()).toEqual([
      {
        name: "stories260K",
        digest: expect.stringMatching(/^sha256:5a9d168b[0-9a-f]{56}$/),
        quantisation: "F32",
        parameters: expect.stringMatching(/^2\d\dK$/),
        contextLength: 512,
        capabilities: [
          "chat",
          "completion",
          "json_mode",
          "json_schema",
          "seed",
          "logprobs",
          "continuation",
          "embedding",
        ],
        slots: 2,
        // Tiny models go to the CPU, whatever GPU there is.
        compute: {
          ...{ device: "cpu", gpuLayers: 0, layers: expect.any(Number) },
          ...{ gpuMemoryBytes: 0, memoryBytes: expect.any(Number) },
        },
      },
    ]);
  });

  it("continues a story word for word at temperature 0, and counts every token", async () => {
    const sink = collect();
    const outcome = await engine.run(completion({ max_tokens: 30 }), sink, never());
    expect(sink.texts.join("")).toContain(STORY.slice(0, 60));
    expect(outcome).toMatchObject({
      type: "done",
      finish: ["length"],
      usage: { inputTokens: 7, outputTokens: 30, cachedInputTokens: 0 },
    });
    expect(sink.texts.length).toBeGreaterThan(20);
  });

  it("computes two attempts at once, and each is as it would be alone", async () => {
    const sinks = [collect(), collect(), collect()];
    await Promise.all(sinks.map((sink) => engine.run(completion({ max_tokens: 25 }), sink, never())));
    const texts = sinks.map(({ texts: pieces }) => pieces.join(""));
    expect(new Set(texts).size).toBe(1);
  });

  it("stops at a stop sequence and leaves it out", async () => {
    const sink = collect();
    const outcome = await engine.run(completion({ max_tokens: 60, stop: [" Lily"] }), sink, never());
    expect(sink.texts.join("")).toBe(", there was a little girl named");
    expect(outcome).toMatchObject({ finish: ["stop"] });
  });

  it("chats through a template", async () => {
    const sink = collect();
    const body = {
      messages: [
        { role: "system", content: "Tell stories." },
        { role: "user", content: "Once upon a time" },
      ],
      temperature: 0,
      max_tokens: 12,
    };
    const outcome = await engine.run({ kind: "chat", model: "stories260K", body }, sink, never());
    expect(sink.texts.join("").length).toBeGreaterThan(5);
    expect(outcome).toMatchObject({ type: "done", finish: ["length"], usage: { outputTokens: 12 } });
    expect((outcome.usage?.inputTokens ?? 0) > 10).toBe(true);
  });

  it("tells log-probabilities that are those of the text it says without them", async () => {
    const asked = (more: object) => ({
      kind: "chat" as const,
      model: "stories260K",
      body: { messages: [{ role: "user", content: "Once" }], temperature: 0, max_tokens: 12, ...more },
    });
    const [plain, told] = [collect(), collect()];
    await engine.run(asked({}), plain, never());
    const outcome = await engine.run(asked({ logprobs: true, top_logprobs: 3 }), told, never());
    expect(outcome).toMatchObject({ type: "done", finish: ["length"], usage: { outputTokens: 12 } });
    const tokens = told.choices.flatMap(({ logprobs }) => logprobs?.content ?? []);
    expect(tokens).toHaveLength(12);
    expect(told.choices.map(({ content }) => content ?? "").join("")).toBe(plain.texts.join(""));
    expect(tokens.map(({ token }) => token).join("")).toBe(plain.texts.join(""));
    for (const { token, logprob, top_logprobs: top } of tokens) {
      expect(logprob).toBeLessThanOrEqual(0);
      expect(top).toHaveLength(3);
      expect(top[0]).toEqual({ token, logprob }); // at temperature 0 the likeliest is said
      expect(top.map((one) => one.logprob)).toEqual(top.map((one) => one.logprob).toSorted((a, b) => b - a));
      expect(top.reduce((sum, one) => sum + Math.exp(one.logprob), 0)).toBeLessThanOrEqual(1.000_01);
    }
    expect(tokens.some(({ logprob }) => logprob < -0.01)).toBe(true);
  });

  it("keeps the space before the first word of a completion", async () => {
    const sink = collect();
    await engine.run(completion({ prompt: "The cat", max_tokens: 8 }), sink, never());
    expect(sink.texts[0]).toMatch(/^ \S/);
  });

  it.each(["chat", "completion"] as const)(
    "goes on behind any beginning of a %s's answer as if it had said it itself, to the same end",
    async (kind) => {
      const body = {
        ...(kind === "chat" ? { messages: [{ role: "user", content: "Once" }] } : { prompt: "The cat" }),
        ...{ temperature: 0, max_tokens: 40 },
      };
      const whole = collect();
      const undisturbed = await engine.run({ kind, model: "stories260K", body }, whole, never());
      const text = whole.texts.join("");
      for (let cut = 1; cut < whole.texts.length; cut++) {
        const prefix = { pieces: whole.texts.slice(0, cut), tokens: cut };
        // What the sequence still holds of the whole answer would make it easy.
        await engine.run(completion({ prompt: `Other ${cut}`, max_tokens: 1 }), collect(), never());
        const rest = collect();
        const outcome = await engine.run({ kind, model: "stories260K", body, prefix }, rest, never());
        expect([...prefix.pieces, ...rest.texts].join("")).toBe(text);
        expect(outcome).toMatchObject({ type: "done", finish: (undisturbed as { finish: string[] }).finish });
        expect(outcome.usage?.outputTokens).toBe(40 - cut);
      }
      const rest = collect();
      const nothingLeft = { kind, model: "stories260K", body, prefix: { pieces: whole.texts, tokens: 40 } };
      expect(await engine.run(nothingLeft, rest, never())).toMatchObject({
        type: "done",
        finish: ["length"],
      });
      expect(rest.texts).toEqual([]);
    },
  );

  it("keeps to a JSON schema", async () => {
    const sink = collect();
    const schema = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"] };
    const body = {
      messages: [{ role: "user", content: "ok?" }],
      temperature: 0,
      max_tokens: 100,
      response_format: { type: "json_schema", json_schema: { name: "x", schema } },
    };
    await engine.run({ kind: "chat", model: "stories260K", body }, sink, never());
    expect(typeof JSON.parse(sink.texts.join("")).ok).toBe("boolean");
  });

  it("stops computing when it is aborted, and still tells what it used", async () => {
    const controller = new AbortController();
    const sink = collect();
    const keep = sink.text;
    sink.text = (text) => {
      keep(text);
      if (sink.texts.length === 5) controller.abort(new Error("gone"));
    };
    const outcome = await engine.run(completion({ max_tokens: 400 }), sink, controller.signal);
    expect(outcome).toMatchObject({ type: "failed", code: "cancelled" });
    // A token takes a fraction of a millisecond here: many are said before a busy machine lets the program hear of it.
    expect(sink.texts.length).toBeLessThan(400);
    expect(outcome.usage?.outputTokens).toBeGreaterThanOrEqual(5);
    expect(outcome.usage?.outputTokens).toBeLessThan(400);
  });

  it("refuses a prompt that its context can't hold", async () => {
    const outcome = await engine.run(completion({ prompt: "story ".repeat(600) }), collect(), never());
    expect(outcome).toMatchObject({ type: "failed", code: "context_length_exceeded" });
  });

  it.each([
    ["n", { n: 2 }],
    ["logit_bias", { logit_bias: { "1": 1 } }],
  ])("says that it lacks %s", async (_name, more) => {
    expect(await engine.run(completion(more), collect(), never())).toMatchObject({ code: "unsupported" });
  });

  it("gives one vector for each input", async () => {
    const sink = collect();
    const body = { input: ["a cat", "a dog"] };
    const outcome = await engine.run({ kind: "embedding", model: "stories260K", body }, sink, never());
    expect(sink.vectors.map((text) => Buffer.from(text, "base64").length)).toEqual([256, 256]);
    expect(outcome).toMatchObject({ type: "done", usage: { outputTokens: 0 } });
  });

  it("reads no file twice for its digest", async () => {
    const counted: Host = {
      ...host,
      files: { ...host.files, sha256: () => Promise.reject(new Error("read again")) },
    };
    const again = createBuiltInEngine({ host: counted, modelPath, name: "again", sandbox });
    expect(await again.models()).toMatchObject([
      { name: "again", digest: expect.stringContaining("5a9d168b") },
    ]);
    await again.close?.();
  });

  it("comes back when its program is killed, and says so to who was served", async () => {
    const children: Child[] = [];
    const watching: Host = {
      ...host,
      spawn: (...args) => {
        const child = host.spawn(...args);
        children.push(child);
        return child;
      },
    };
    const own = createBuiltInEngine({ host: watching, modelPath, sandbox });
    try {
      await own.models();
      let next = Promise.withResolvers<void>();
      own.watch?.(() => {
        next.resolve();
        next = Promise.withResolvers();
      });
      const fell = next.promise;
      const sink = collect();
      const keep = sink.text;
      sink.text = (text) => {
        keep(text);
        if (sink.texts.length === 3) children.at(-1)!.kill();
      };
      const secret = "Once upon a secret";
      const attempt = { ...completion({ prompt: secret, max_tokens: 480 }), model: "stories260K" };
      await expect(own.run(attempt, sink, never())).rejects.toThrow(EngineGone);
      await fell;
      const back = next.promise;
      const refused = (await own.models().catch((error: unknown) => error)) as Error;
      expect(refused.message).toMatch(/was killed.*started again in 1 s/);
      expect(refused.message).not.toContain("secret");
      await back;
      expect(await own.models()).toHaveLength(1);
      expect(await own.run(completion({ max_tokens: 5 }), collect(), never())).toMatchObject({
        type: "done",
      });
    } finally {
      await own.close?.();
    }
  });

  it("frees its memory within seconds when it is unloaded, and loads at the next attempt", async () => {
    const own = createBuiltInEngine({ host, modelPath, sandbox });
    const offered = await own.models();
    const sinceMs = performance.now();
    await own.unload?.();
    expect(performance.now() - sinceMs).toBeLessThan(5_000);
    expect(await own.models()).toEqual(offered);
    expect(await own.run(completion({ max_tokens: 5 }), collect(), never())).toMatchObject({ type: "done" });
    await own.close?.();
  });

  it("writes no prompt and no answer anywhere", async () => {
    const secret = "zebra quibbles";
    const beganMs = Date.now() - 1_000;
    const sink = collect();
    const prompt = `Once upon a time a ${secret}`;
    await engine.run(completion({ prompt, max_tokens: 60, temperature: 0 }), sink, never());
    const answer = sink.texts.join("").slice(0, 24);
    expect(answer.length).toBe(24);
    const suspects: string[] = [];
    for (const folder of new Set([directory, tmpdir(), process.cwd(), homedir()]))
      for (const entry of await readdir(folder, { withFileTypes: true, recursive: folder === directory })) {
        const path = join(entry.parentPath, entry.name);
        if (!entry.isFile()) continue;
        const facts = await stat(path).catch(() => null);
        if (facts && facts.mtimeMs >= beganMs) suspects.push(path);
      }
    for (const path of suspects) {
      const text = await readFile(path, "latin1").catch(() => "");
      expect([path, text.includes(secret), text.includes(answer)]).toEqual([path, false, false]);
    }
  });

  it.each<[string, (whole: Buffer) => Buffer, RegExp]>([
    ["is cut short", (whole) => whole.subarray(0, 300_000), /cut short or broken.*pull it again/],
    ["ends in its beginning", (whole) => whole.subarray(0, 300), /pull it again/],
    ["is a page", () => Buffer.from("<!DOCTYPE html><title>Log in</title>"), /no model file \(GGUF\)/],
  ])("says what is wrong with a file that %s, and what to do", async (_case, broken, words) => {
    const path = join(directory, "broken.gguf");
    await writeFile(path, broken(await readFile(modelPath)));
    const engine = createBuiltInEngine({ host, modelPath: path, sandbox });
    await expect(engine.models()).rejects.toThrow(words);
    await engine.close?.();
  });

  it("loads nothing for a look at it once it was put aside for its owner", async () => {
    const path = join(directory, "aside.gguf");
    await copyFile(modelPath, path);
    const engine = createBuiltInEngine({ host, modelPath: path, sandbox });
    const [model] = await engine.models();
    await engine.unload?.();
    await writeFile(path, "what can't be loaded");
    expect(await engine.models()).toEqual([model]);
    const attempt = { ...completion({}), model: "aside" };
    await expect(engine.run(attempt, collect(), never())).rejects.toThrow("no model file");
    await engine.close?.();
  });

  it("is served by the pulled model's name where no engine is found", async () => {
    const models = await mkdtemp(join(tmpdir(), "gfe-pulled-"));
    await symlink(modelPath, join(models, "story-F32.gguf"));
    const own = { ...host, env: { GFE_MODELS_DIR: models } };
    const hub = await hubOf();
    const { agent } = await nodeOf(
      hub,
      {},
      {
        ...{ host: own, engines: [], detect: { ports: [] } },
        fallback: async () =>
          inTurn(
            (await listModels(own)).map(({ path }) => createBuiltInEngine({ host: own, modelPath: path })),
          ),
      },
    );
    const connection = await hub.joined();
    expect(agent.engines).toMatchObject([{ kind: "built-in", compute: { device: "cpu" } }]);
    const attempt = connection.start({
      ...{ attempt: attemptId(), model: "story-F32", kind: "completion" },
      body: { prompt: "Once upon a time", max_tokens: 4 },
    });
    expect((await attempt.end).type).toBe("attempt.done");
    await rm(models, { recursive: true });
  });

  it("says what is wrong with a path where no model is", async () => {
    const missing = createBuiltInEngine({ host, modelPath: join(directory, "no.gguf"), sandbox });
    await expect(missing.models()).rejects.toThrow("is not there");
  });
});
