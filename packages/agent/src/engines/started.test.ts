import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { createNodeHost } from "../node-host.ts";
import { openSandbox } from "../sandbox/open.ts";
import type { SandboxSettings } from "../sandbox/sandbox.ts";
import { collect } from "../testing/collect.ts";
import type { Engine } from "./engine.ts";
import { createStartedEngine } from "./started.ts";
import { commandWords, engineCommand } from "./started-command.ts";

const SCRIPT = join(import.meta.dirname, "../testing/fake-llama.ts");
const state = mkdtempSync(join(tmpdir(), "gfe-started-"));
afterAll(() => rmSync(state, { recursive: true, force: true }));
const host = createNodeHost({ configDir: join(state, "config"), stateDir: join(state, "state") });

const kinds: SandboxSettings[] = [
  { kind: "none" },
  { kind: "bwrap" },
  { kind: "podman" },
  { kind: "podman", runtime: "runsc" },
];
const tried = await Promise.all(
  kinds.map(async (settings) => {
    const name = settings.runtime ?? settings.kind!;
    const problem = await openSandbox(host, settings).then(
      () => null,
      (error: Error) => error.message,
    );
    if (problem) console.warn(`\n*** NO ENGINE IS STARTED IN ${name.toUpperCase()}: ${problem} ***\n`);
    return {
      name,
      settings,
      works: problem === null || (settings.kind === "bwrap" && process.env.CI === "true"),
    };
  }),
);

const engines: Engine[] = [];
afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.close?.();
});
const marker = () => `--marker-${Math.random().toString(36).slice(2)}`;
function start(settings: SandboxSettings, more = marker()): Engine {
  const command = `'${process.execPath}' '${SCRIPT}' --port {port} ${more}`;
  const engine = createStartedEngine({ host, command, sandbox: settings });
  engines.push(engine);
  return engine;
}
const chat = (content: string) => ({
  kind: "chat" as const,
  model: "fake",
  body: { messages: [{ role: "user", content }] },
});
const never = () => new AbortController().signal;

describe.each(tried)("an engine that the agent starts in $name", ({ settings, works }) => {
  describe.skipIf(!works)("where it can be had", () => {
    it("is told by what it answers, and its answers come through whole", async () => {
      const engine = start(settings);
      expect(await engine.models()).toMatchObject([{ name: "fake", contextLength: 4096, slots: 2 }]);
      expect(engine.kind).toBe("llama.cpp");
      const said = "tokens \u2028 \u2029 \r\n \u0000 é 漢字 👩‍👩‍👧 end";
      const sink = collect();
      const outcome = await engine.run(chat(said), sink, never());
      expect(sink.texts.join("")).toBe(said);
      expect(outcome).toMatchObject({ type: "done", finish: ["stop"], usage: { inputTokens: 3 } });
    });
  });
});

const podman = tried.find(({ name, works }) => name === "podman" && works);
describe.skipIf(!podman)("an engine in an image that has no system at all", () => {
  it("is started with a relay that brings its own libraries", async () => {
    const image = mkdtempSync(join(state, "image-"));
    // What the relay brings is all that is there: the engine is run by it too.
    const libraries = ["/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib64", "/lib64"].map(
      (folder) => `/gfe-lib${folder}`,
    );
    const command = `/gfe-lib/loader --library-path ${libraries.join(":")} '${process.execPath}' '${SCRIPT}' --port {port}`;
    const settings = { kind: "podman" as const, image };
    const engine = createStartedEngine({ host, command, sandbox: settings, reads: [SCRIPT] });
    engines.push(engine);
    expect(await engine.models()).toMatchObject([{ name: "fake" }]);
    const sink = collect();
    await engine.run(chat("from an image"), sink, never());
    expect(sink.texts.join("")).toBe("from an image");
  });
});

// What keeps an engine running is the same for all of them.
describe.each(tried.slice(0, 2))("an engine that is kept running in $name", ({ settings, works }) => {
  describe.skipIf(!works)("where it can be had", () => {
    it("is no longer read where the hub wants no more, and loses nothing by it", async () => {
      const engine = start(settings);
      await engine.models();
      const sink = collect();
      const more = Promise.withResolvers<void>();
      let held = false;
      sink.ready = () => {
        if (held) return undefined;
        held = true;
        setTimeout(more.resolve, 100);
        return more.promise;
      };
      await engine.run(chat("big"), sink, never());
      expect(held).toBe(true);
      expect(sink.texts.join("").length).toBe(4 * 1024 * 1024);
    });

    it("is withdrawn when it crashes, with the reason, and comes back by itself", async () => {
      const engine = start(settings);
      await engine.models();
      const changes: string[] = [];
      let next = Promise.withResolvers<void>();
      engine.watch?.(() => {
        changes.push("changed");
        next.resolve();
        next = Promise.withResolvers();
      });
      const fell = next.promise;
      const outcome = await engine.run(chat("crash"), collect(), never()).catch((error: unknown) => error);
      expect(outcome).toMatchObject(
        outcome instanceof Error ? { name: "EngineGone" } : { type: "failed", code: "engine_error" },
      );
      await fell;
      const back = next.promise;
      await expect(engine.models()).rejects.toThrow(/ran out of memory; it is started again in 1 s/);
      await back;
      expect(await engine.models()).toHaveLength(1);
    });

    it("frees what it takes when it is unloaded, stays offered, and starts again with the next attempt", async () => {
      const own = marker();
      const engine = start(settings, own);
      const offered = await engine.models();
      const startedMs = performance.now();
      await engine.unload?.();
      await until(() => running(own) === 0);
      expect(performance.now() - startedMs).toBeLessThan(5_000);
      expect(await engine.models()).toEqual(offered);
      expect(running(own)).toBe(0);
      const sink = collect();
      await engine.run(chat("again"), sink, never());
      expect(sink.texts.join("")).toBe("again");
    });
  });
});

describe("an engine's command", () => {
  it("is cut into words as a shell would", () => {
    expect(commandWords(`/a\\ b/x -m "C d.gguf" 'it''s' e"f"g`)).toEqual([
      "/a b/x",
      "-m",
      "C d.gguf",
      "its",
      "efg",
    ]);
    expect(commandWords(`x "open`)).toBeNull();
    const word = fc.string({ minLength: 1 }).filter((text) => !/['\s]/.test(text));
    fc.assert(
      fc.property(fc.array(word), (words) => {
        expect(commandWords(words.map((one) => `'${one}'`).join(" "))).toEqual(words);
      }),
    );
  });

  const read = { ...host, env: { HOME: state, OLLAMA_MODELS: "/usr/share" } };
  it.each([
    [
      "llama-server",
      "/usr/bin/llama-server --port 9 -m m --host=0.0.0.0",
      "-m m --host 127.0.0.1 --port 4711",
    ],
    ["another", "/usr/bin/server --listen 127.0.0.1:{port}", "--listen 127.0.0.1:4711"],
  ])("has the port of %s put in", async (_name, text, expected) => {
    const { words } = await engineCommand(read, commandWords(text)!, 4711, false);
    expect(words.slice(1).join(" ")).toBe(expected);
  });

  it("tells Ollama where to listen by its environment, and lets it read its models", async () => {
    expect(await engineCommand(read, ["ollama", "serve"], 4711, false)).toMatchObject({
      kind: "ollama",
      env: { OLLAMA_HOST: "127.0.0.1:4711", OLLAMA_NOPRUNE: "1" },
      reads: ["/usr/share"],
    });
  });

  it("says what is missing where nothing tells an engine its port", async () => {
    await expect(engineCommand(read, ["/usr/bin/vllm", "serve"], 1, false)).rejects.toThrow("write {port}");
  });

  it("never opens a home or what is the agent's to it", async () => {
    const words = [
      "/usr/bin/x",
      state,
      `${state}/config`,
      "/",
      tmpdir(),
      "{port}",
      "/usr/share",
      "/usr/../root",
    ];
    expect((await engineCommand(read, words, 1, false)).reads).toEqual(["/usr/share"]);
  });
});

/** How many processes of this machine have it in their words. */
function running(marker: string): number {
  return readdirSync("/proc").filter((pid) => {
    const path = `/proc/${pid}/cmdline`;
    try {
      return /^\d+$/.test(pid) && existsSync(path) && readFileSync(path, "utf8").includes(marker);
    } catch {
      return false;
    }
  }).length;
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error("it did not come true");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
