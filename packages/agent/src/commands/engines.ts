/** The engines that `gfe up` starts itself, and what confines them. */
import { createBuiltInEngine } from "../engines/built-in.ts";
import type { Engine } from "../engines/engine.ts";
import { createStartedEngine } from "../engines/started.ts";
import type { Host } from "../host.ts";
import { describeSandbox } from "../sandbox/open.ts";
import type { SandboxKind, SandboxSettings, SandboxStatus } from "../sandbox/sandbox.ts";

export interface StartedOptions {
  modelPath?: string;
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
  { type: "engines"; engines: Engine[]; sandbox: SandboxStatus | null } | { type: "failed"; message: string };

/** Starts nothing yet: each engine starts at the first look at its models. */
export async function startedEngines(host: Host, options: StartedOptions): Promise<StartedEngines> {
  const { modelPath, engineCommand: command, engineImage: image } = options;
  if (image && !command)
    return {
      type: "failed",
      message:
        "--engine-image needs --engine-command too: what is run in the image, such as '/app/llama-server -m /models/a.gguf'",
    };
  if (!modelPath && !command) return { type: "engines", engines: [], sandbox: null };
  const sandbox = settingsOf(options);
  const found = await describeSandbox(host, sandbox);
  if (!found.status) return { type: "failed", message: `${found.problem.what}. ${found.problem.cure}` };
  const engines = [
    ...(modelPath ? [createBuiltInEngine({ host, modelPath, sandbox })] : []),
    ...(command ? [createStartedEngine({ host, command, sandbox, reads: options.engineRead ?? [] })] : []),
  ];
  return { type: "engines", engines, sandbox: found.status };
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
