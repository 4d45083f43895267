import type { SandboxHost } from "./bubblewrap.ts";
import { type Sandbox, type SandboxSettings, SandboxUnavailable } from "./sandbox.ts";

export async function openContainers(
  _host: SandboxHost,
  kind: "podman" | "docker",
  _settings: SandboxSettings,
): Promise<Sandbox> {
  throw new SandboxUnavailable(`${kind} is not yet there`, "Take --sandbox bwrap");
}
