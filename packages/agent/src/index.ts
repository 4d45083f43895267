export * from "./agent.ts";
export * from "./aliases.ts";
export type { PriceList } from "./catalogue.ts";
export { asRun, type CommandRun, type CommandSpec, OptionError, type Output } from "./commands/command.ts";
export { examplesOf, flagsOf } from "./commands/help.ts";
export { type ParsedLine, parseLine } from "./commands/parse.ts";
export { agentRuns } from "./commands/run.ts";
export { serviceCommands, serviceRuns } from "./commands/service.ts";
export { agentCommands } from "./commands/table.ts";
export { runUp, type UpOptions } from "./commands/up.ts";
export * from "./device.ts";
export { createBuiltInEngine } from "./engines/built-in.ts";
export type { BuiltInOptions } from "./engines/built-in-model.ts";
export { DEFAULT_PORTS, type DetectOptions, detectEngines, identifyEngine } from "./engines/detect.ts";
export {
  type DiscoveredModel,
  type Engine,
  type EngineAttempt,
  EngineGone,
  type EngineOutcome,
  type EngineSink,
  type EngineUsage,
} from "./engines/engine.ts";
export { createOllamaEngine, type OllamaOptions } from "./engines/ollama.ts";
export { createOpenAiEngine } from "./engines/openai-compatible.ts";
export type { OpenAiOptions } from "./engines/openai-models.ts";
export { createScriptedEngine, type Script, type ScriptedFailure } from "./engines/scripted.ts";
export * from "./errors.ts";
export { delay, type Files, type Host, type Log } from "./host.ts";
export { type HubAddress, parseHubAddress } from "./hub-address.ts";
export { createHubRecords, type HubRecord, type HubRecords } from "./hub-records.ts";
export { loadIdentity } from "./identity.ts";
export { createMemoryFiles } from "./memory-files.ts";
export { createNodeHost, type NodeHostOptions } from "./node-host.ts";
export { dialNodeSocket } from "./node-network.ts";
export { createNodeProgram } from "./node-program.ts";
export { type ParsedPrice, parsePrice } from "./price.ts";
export { probeGpus } from "./probe.ts";
export { AGENT_VERSION } from "./version.ts";
