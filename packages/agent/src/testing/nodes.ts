/** Agents and hubs for tests, taken down after each test. */
import { randomUUID } from "node:crypto";
import { afterEach } from "vitest";
import { type Agent, type AgentEvent, type AgentOptions, startAgent } from "../agent.ts";
import { createScriptedEngine, type Script } from "../engines/scripted.ts";
import type { Host } from "../host.ts";
import { createMemoryFiles } from "../memory-files.ts";
import { createNodeHost } from "../node-host.ts";
import { createScriptedHub, type ScriptedHub, type ScriptedHubOptions } from "./scripted-hub.ts";

const clean: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of clean.splice(0).reverse()) await step();
});

export const memoryHost = (): Host =>
  createNodeHost({ files: createMemoryFiles(), configDir: "/config", stateDir: "/state" });

export async function hubOf(options?: ScriptedHubOptions): Promise<ScriptedHub> {
  const hub = await createScriptedHub(options);
  clean.push(() => hub.close());
  return hub;
}

/** An agent with one scripted engine. */
export async function nodeOf(
  hub: { url: string },
  script: Script = {},
  options: Partial<AgentOptions> = {},
): Promise<{ agent: Agent; events: AgentEvent[]; host: Host }> {
  const host = options.host ?? memoryHost();
  const events: AgentEvent[] = [];
  const agent = await startAgent({
    hubUrl: hub.url,
    token: "gfe_at_test",
    engines: [createScriptedEngine(host, script)],
    gpus: [],
    ...options,
    host,
    onEvent: (event) => {
      events.push(event);
      options.onEvent?.(event);
    },
  });
  clean.push(() => agent.stop());
  return { agent, events, host };
}

export const attemptId = () => `att_${randomUUID()}`;
