/**
 * An engine that the agent starts: a llama-server, an Ollama or another server of the provider's, or one in an image. It runs in the
 * sandbox with a relay beside it, is found out by what it answers, and is started again when it ends.
 */
import { delay, type Host } from "../host.ts";
import { createKeeper, type Keeper } from "../sandbox/keeper.ts";
import { type OpenHost, openSandbox } from "../sandbox/open.ts";
import { relayedHttp } from "../sandbox/relay-client.ts";
import type { Sandbox, SandboxSettings } from "../sandbox/sandbox.ts";
import { type DetectOptions, detectEngines } from "./detect.ts";
import { type DiscoveredModel, type Engine, failed } from "./engine.ts";
import { commandWords, engineCommand } from "./started-command.ts";

export interface StartedEngineOptions {
  host: OpenHost & Host;
  /** As in a shell: `/opt/llama.cpp/llama-server -m /models/a.gguf`; `{port}` is where its port goes. */
  command: string;
  sandbox?: SandboxSettings;
  /** Whether it may use the GPU; true unless given. */
  gpu?: boolean;
  /** Files and folders that it reads beside those that its command names. */
  reads?: readonly string[];
  detect?: Pick<DetectOptions, "slots" | "capabilities" | "contextLengthMax">;
}

/** The port in a network of the engine's own. */
const OWN_PORT = 8080;
/** Without one, a port of the machine's that is likely free. */
const PORTS = { from: 20_000, count: 20_000 } as const;
const START_LIMITS = {
  /** From the start to the first answer: a big model is read from a slow disk. */
  readyMs: 15 * 60_000,
  lookMs: 250,
} as const;

export function createStartedEngine(options: StartedEngineOptions): Engine {
  const { host, command } = options;
  const label = `${command.split(/\s/)[0]!.replace(/^.*[\\/]/, "")} that the agent starts`;
  let sandbox: Promise<Sandbox> | null = null;
  let models: DiscoveredModel[] = [];
  let kind: Engine["kind"] = "openai-compatible";
  let port: number = OWN_PORT;
  let rests = false;
  let closed = false;
  let changed = () => {};

  const keeper: Keeper<Engine> = createKeeper<Engine>({
    host,
    label,
    async start() {
      const helper = host.helper("relay");
      const words = commandWords(command);
      if (!helper) throw new Error("this agent has no relay to speak to an engine in a sandbox");
      if (!words?.length) throw new Error("the engine's command is empty, or a quote in it has no end");
      sandbox ??= openSandbox(host, options.sandbox).catch((error: unknown) => {
        sandbox = null;
        throw error;
      });
      const { start, status } = await sandbox;
      const inImage =
        options.sandbox?.image !== undefined && (status.kind === "podman" || status.kind === "docker");
      port = status.kind === "none" ? PORTS.from + Math.floor(host.random() * PORTS.count) : OWN_PORT;
      const engine = await engineCommand(host, words, port, inImage);
      kind = engine.kind;
      const reads = [...engine.reads, ...(options.reads ?? [])];
      return start({
        helper,
        args: [String(port), ...engine.words],
        env: engine.env,
        files: reads.map((path) => ({ from: path, to: path })),
        gpu: options.gpu !== false,
        inImage,
      });
    },
    async open(child) {
      const inside: Host = { ...host, http: relayedHttp(child) };
      let ended = false;
      void child.ended.then(() => {
        ended = true;
      });
      const deadlineMs = host.nowMs() + START_LIMITS.readyMs;
      while (!ended && host.nowMs() < deadlineMs) {
        const [engine] = await detectEngines(inside, {
          ...options.detect,
          ...{ urls: [`http://127.0.0.1:${port}`], ports: [] },
        });
        if (engine) return engine;
        await delay(host, START_LIMITS.lookMs);
      }
      throw new Error(`it does not answer on port ${port}`);
    },
    onChange: () => changed(),
  });

  return {
    get kind() {
      return keeper.current?.kind ?? kind;
    },
    label,
    async models(signal) {
      if (closed) return [];
      // Models that were put aside are offered still: the next attempt loads them.
      if (!rests) models = await (await keeper.use()).models(signal);
      return models;
    },
    async run(attempt, sink, signal) {
      if (closed) return failed("engine_error", "the engine is closed");
      const wasAway = keeper.current === null;
      const engine = await keeper.use();
      rests = false;
      if (wasAway) await engine.models(signal);
      keeper.hush();
      return engine.run(attempt, sink, signal);
    },
    async unload() {
      rests = true;
      await keeper.rest();
    },
    watch(callback) {
      changed = callback;
    },
    async close() {
      closed = true;
      await keeper.rest();
    },
  };
}
