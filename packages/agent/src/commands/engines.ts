/** The engines that `gfe up` starts itself, and what confines them. */
import type { Engine } from "../engines/engine.ts";
import { createStartedEngine } from "../engines/started.ts";
import type { Host } from "../host.ts";
import { describeSandbox } from "../sandbox/open.ts";
import type { SandboxKind, SandboxSettings, SandboxStatus } from "../sandbox/sandbox.ts";

export interface StartedOptions {
  engineCommand?: string;
  engineImage?: string;
  engineRead?: readonly string[];
  /** Bytes. */
  engineMemory?: number;
  sandbox?: SandboxKind;
  runtime?: string;
}

export type StartedEngines =
  /** `sandbox` is null where nothing is started. */
  | { type: "engines"; engines: Engine[]; settings: SandboxSettings; sandbox: SandboxStatus | null }
  | { type: "failed"; message: string };

/**
 * Starts nothing yet: each engine starts at the first look at its models. `builtIn`: whether the built-in engine will run, in the
 * same sandbox.
 */
export async function startedEngines(
  host: Host,
  options: StartedOptions,
  builtIn: boolean,
): Promise<StartedEngines> {
  const { engineCommand: command, engineImage: image } = options;
  if (image && !command)
    return {
      type: "failed",
      message:
        "--engine-image needs --engine-command too: what is run in the image, such as '/app/llama-server -m /models/a.gguf'",
    };
  const sandbox = settingsOf(options);
  if (!builtIn && !command) return { type: "engines", engines: [], settings: sandbox, sandbox: null };
  const found = await describeSandbox(host, sandbox);
  if (!found.status) return { type: "failed", message: `${found.problem.what}. ${found.problem.cure}` };
  const engines = [
    ...(command ? [createStartedEngine({ host, command, sandbox, reads: options.engineRead ?? [] })] : []),
  ];
  return { type: "engines", engines, settings: sandbox, sandbox: found.status };
}

function settingsOf({ sandbox, runtime, engineImage, engineMemory }: StartedOptions): SandboxSettings {
  // An image is for containers.
  const kind = sandbox ?? (engineImage ? "podman" : undefined);
  return {
    ...(kind ? { kind } : {}),
    ...(runtime ? { runtime } : {}),
    ...(engineImage ? { image: engineImage } : {}),
    ...(engineMemory ? { memoryBytes: engineMemory } : {}),
  };
}
