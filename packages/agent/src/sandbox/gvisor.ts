/** What gVisor does with GPUs: `--nvproxy` passes the calls of some NVIDIA drivers on, for the GPUs that it was tested with. */
import type { Host } from "../host.ts";
import { gpuDevices } from "./machine.ts";
import { SANDBOX_LIMITS, type SandboxProblem } from "./sandbox.ts";

/** gVisor's documentation, "GPU support". */
const SUPPORTED = /\b(T4|L4|A100|A10G|H100)\b/;

export interface GvisorGpu {
  flags: readonly string[];
  devices: readonly string[];
  problem: SandboxProblem | null;
}

/** Without a problem where there is no GPU. */
export async function gvisorGpu(host: Pick<Host, "files" | "run">): Promise<GvisorGpu> {
  const devices = await gpuDevices(host);
  const none = (what: string, cure: string): GvisorGpu => ({
    flags: [],
    devices: [],
    problem: { what, cure },
  });
  if (devices.length === 0) return { flags: [], devices: [], problem: null };
  const nvidia = devices.filter((path) => path.startsWith("/dev/nvidia"));
  const other = "compute on the CPU, or take --sandbox bwrap for this engine";
  if (nvidia.length === 0) return none("gVisor passes no GPU of this maker on", other);
  const [listed, flags] = await Promise.all([
    host.run("nvidia-smi", ["--query-gpu=name", "--format=csv,noheader"], {
      timeoutMs: SANDBOX_LIMITS.trialMs,
    }),
    host.run("runsc", ["flags"], { timeoutMs: SANDBOX_LIMITS.trialMs }),
  ]);
  const names = listed.type === "ran" ? listed.stdout.trim().split("\n") : [];
  const unknown = names.filter((name) => !SUPPORTED.test(name));
  if (names.length === 0 || unknown.length > 0)
    return none(
      `gVisor's nvproxy supports T4, L4, A100, A10G and H100, not ${unknown.join(", ") || "this GPU"}: the engine gets no GPU`,
      other,
    );
  if (flags.type !== "ran" || !flags.stdout.includes("nvproxy"))
    return none("this gVisor is too old for GPUs: it has no nvproxy", `install a newer runsc, or ${other}`);
  return { flags: ["nvproxy=true"], devices: nvidia, problem: null };
}
