/** What of the machine bears on a sandbox. */
import type { Child, Host } from "../host.ts";
import { SANDBOX_LIMITS, type SandboxSettings } from "./sandbox.ts";
import type { Architecture } from "./syscalls.ts";

type MachineHost = Pick<Host, "files" | "env" | "run">;

/** Device nodes of GPUs that are here. */
export async function gpuDevices({ files }: Pick<Host, "files">): Promise<string[]> {
  const names = [
    ...["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "dri", "kfd", "dxg"],
    ...Array.from({ length: 16 }, (_, index) => `nvidia${index}`),
  ];
  const paths = names.map((name) => `/dev/${name}`);
  const facts = await Promise.all(paths.map((path) => files.facts(path).catch(() => null)));
  return paths.filter((_, index) => facts[index] !== null);
}

/** Most memory of an engine, bytes; null where neither settings nor machine say. */
export async function memoryLimit(
  { files }: Pick<Host, "files">,
  { memoryBytes }: SandboxSettings,
): Promise<number | null> {
  if (memoryBytes !== undefined) return memoryBytes;
  const text = await textOf(files, "/proc/meminfo");
  const total = Number(/^MemTotal:\s+(\d+) kB/m.exec(text)?.[1]) * 1024;
  if (!Number.isFinite(total)) return null;
  return Math.max(SANDBOX_LIMITS.memoryBytesMin, Math.floor(total * SANDBOX_LIMITS.memoryShare));
}

/** Null where the filter of system calls is not known. */
export async function architectureOf(host: Pick<Host, "run">): Promise<Architecture | null> {
  const result = await host.run("uname", ["-m"], { timeoutMs: SANDBOX_LIMITS.trialMs });
  const machine = result.type === "ran" ? result.stdout.trim() : "";
  if (machine === "x86_64") return "x64";
  return machine === "aarch64" ? "arm64" : null;
}

/** Empty where there is no such file, or it may not be read. */
export async function textOf(files: Host["files"], path: string): Promise<string> {
  const bytes = await files.read(path).catch(() => null);
  return bytes ? new TextDecoder().decode(bytes) : "";
}

/** What an engine is told of the owner's environment: how to use the GPU, and nothing that could be a secret. */
const TOLD = /^(CUDA|NVIDIA|HIP|ROCR|HSA|GGML|VK|OLLAMA|LLAMA|ZE|SYCL)_/;
const SECRET = /TOKEN|KEY|SECRET|PASS|AUTH/i;

export function engineEnvironment({ env }: Pick<MachineHost, "env">): Record<string, string> {
  const told = Object.entries(env).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined && TOLD.test(entry[0]) && !SECRET.test(entry[0]),
  );
  return {
    ...Object.fromEntries(told),
    ...{ PATH: "/usr/local/bin:/usr/bin:/bin", HOME: "/tmp", TMPDIR: "/tmp", LANG: "C.UTF-8" },
  };
}

/** For a POSIX shell. */
export const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

export const inMib = (bytes: number): string => `${Math.round(bytes / 1024 ** 2)} MiB`;

/** Whether a program that does next to nothing can be started: `failure` is "" where it worked, `said` what it said. */
export async function trial(
  host: Pick<Host, "after">,
  child: Child,
): Promise<{ failure: string; said: string }> {
  const callOff = host.after(SANDBOX_LIMITS.trialMs, () => child.kill());
  const [errors, said] = await Promise.all([endOf(child.stderr), endOf(child.stdout)]);
  const { exitCode } = await child.ended;
  callOff();
  const failure = exitCode === 0 ? "" : errors.trim().split("\n").at(-1) || `it ended with ${exitCode}`;
  return { failure, said };
}

async function endOf(stream: AsyncIterable<Uint8Array>): Promise<string> {
  let text = "";
  for await (const chunk of stream) text = (text + new TextDecoder().decode(chunk)).slice(-1_000);
  return text;
}

/**
 * Shell: says the bounds of the control group whose folder is at hand, in a container or outside. Programs that set bounds
 * ignore what a machine does not let them set, some without a word: what counts is what the kernel says.
 */
export const SAY_BOUNDS = `own=$(sed -n 's/^0:://p' /proc/self/cgroup)
for file in memory.max memory/memory.limit_in_bytes pids.max pids/pids.max; do
  for path in "/sys/fs/cgroup$own/$file" "/sys/fs/cgroup/$file"; do
    [ -r "$path" ] && echo "$file $(cat "$path")" && break
  done
done
:`;

/** Whether what SAY_BOUNDS said keeps to these. */
export function boundsHold(
  said: string,
  memoryBytes: number | null,
  processes: number,
): { memory: boolean; processes: boolean } {
  const least = (pattern: RegExp) =>
    Math.min(...[...said.matchAll(pattern)].map((match) => Number(match[1])), Number.POSITIVE_INFINITY);
  return {
    memory: memoryBytes !== null && least(/^memory\S+ (\d+)$/gm) <= memoryBytes,
    processes: least(/^pids\S+ (\d+)$/gm) <= processes,
  };
}
