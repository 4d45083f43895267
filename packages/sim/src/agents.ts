/** Real agents in this process, on engines that a test scripts. */
import {
  type Agent,
  type AgentOptions,
  createMemoryFiles,
  createNodeHost,
  createScriptedEngine,
  type Engine,
  type Script,
  startAgent,
} from "@gfe/agent";

/** Nothing of it touches the disk: its key lives as long as it does. */
export const memoryHost = () =>
  createNodeHost({ files: createMemoryFiles(), configDir: "/config", stateDir: "/state" });

export type JoinOptions = Pick<AgentOptions, "hubUrl" | "token"> & Partial<AgentOptions>;

/** Resolves when it has joined. */
export function joinAgent(engines: readonly Engine[], options: JoinOptions): Promise<Agent> {
  return startAgent({ host: memoryHost(), gpus: [], name: "node", engines, ...options });
}

/** The same with one scripted engine. `script` may be changed while it runs. */
export function joinScripted(script: Script, options: JoinOptions): Promise<Agent> {
  return joinAgent([createScriptedEngine(memoryHost(), script)], options);
}
