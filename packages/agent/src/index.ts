export * from "./agent.ts";
export * from "./aliases.ts";
export type { BuildFacts } from "./build.ts";
export type { PriceList } from "./catalogue.ts";
export { asRun, type CommandRun, type CommandSpec, OptionError, type Output } from "./commands/command.ts";
export { type StartedOptions, startedEngines } from "./commands/engines.ts";
export { examplesOf, flagsOf } from "./commands/help.ts";
export { type ParsedLine, parseLine } from "./commands/parse.ts";
export { agentRuns } from "./commands/run.ts";
export { serviceCommands, serviceRuns } from "./commands/service.ts";
export { agentCommands } from "./commands/table.ts";
export { runUp, type UpOptions } from "./commands/up.ts";
export { createJournal } from "./control/journal.ts";
export { recordOf } from "./control/records.ts";
export * from "./device.ts";
export { type BuiltInOptions, createBuiltInEngine } from "./engines/built-in.ts";
export type { OpenAiOptions } from "./engines/describe/openai.ts";
export { DEFAULT_PORTS, type DetectOptions, detectEngines } from "./engines/detect.ts";
export {
  type DiscoveredModel,
  type Engine,
  type EngineAttempt,
  EngineGone,
  type EngineOutcome,
  type EngineSink,
  type EngineUsage,
} from "./engines/engine.ts";
export { inTurn } from "./engines/in-turn.ts";
export { createOllamaEngine, type OllamaOptions } from "./engines/ollama.ts";
export { createOpenAiEngine } from "./engines/openai-compatible.ts";
export { createScriptedEngine, type Script, type ScriptedFailure } from "./engines/scripted.ts";
export { parseSlotLimits, type SlotLimits } from "./engines/slot-limits.ts";
export { createStartedEngine, type StartedEngineOptions } from "./engines/started.ts";
export * from "./errors.ts";
export { delay, type Files, type Host, type Log } from "./host.ts";
export { type HubAddress, parseHubAddress } from "./hub-address.ts";
export { createHubRecords, type HubRecord, type HubRecords } from "./hub-records.ts";
export { loadIdentity } from "./identity.ts";
export { createMemoryFiles } from "./memory-files.ts";
export { download } from "./models/download.ts";
export { type LocalModel, listModels, modelNamed } from "./models/library.ts";
export { ModelProblem } from "./models/problem.ts";
export { createNodeHost, type NodeHostOptions } from "./node-host.ts";
export { dialNodeSocket } from "./node-network.ts";
export { createNodeProgram } from "./node-program.ts";
export { type ParsedPrice, parsePrice } from "./price.ts";
export { probeGpus } from "./probe.ts";
export { describeSandbox } from "./sandbox/open.ts";
export {
  SANDBOX_KINDS,
  type SandboxKind,
  type SandboxProblem,
  type SandboxSettings,
  type SandboxStatus,
  SandboxUnavailable,
} from "./sandbox/sandbox.ts";
export { AGENT_VERSION } from "./version.ts";
