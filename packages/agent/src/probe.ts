/** Which GPUs this machine has, as its vendors' own tools say. No tool, no GPU: that is no error. */
import { type Gpu, gpuSchema } from "@gfe/protocol";
import { parseJson } from "./body.ts";
import type { Host } from "./host.ts";

const PROBE_TIMEOUT_MS = 5_000;
const MIB = 1024 * 1024;

type ProbeHost = Pick<Host, "run" | "platform">;

/** The GPUs that were found; empty on a machine that computes on its CPU. */
export async function probeGpus(host: ProbeHost): Promise<Gpu[]> {
  const probes = host.platform === "darwin" ? [probeApple] : [probeNvidia, probeAmd];
  const found = (await Promise.all(probes.map((probe) => probe(host)))).flat();
  return found.filter((gpu) => gpuSchema.safeParse(gpu).success).slice(0, 64);
}

async function output(host: ProbeHost, command: string, ...args: string[]): Promise<string> {
  const result = await host.run(command, args, { timeoutMs: PROBE_TIMEOUT_MS });
  return result.type === "ran" && result.exitCode === 0 ? result.stdout : "";
}

async function probeNvidia(host: ProbeHost): Promise<Gpu[]> {
  const csv = await output(
    host,
    "nvidia-smi",
    "--query-gpu=name,memory.total",
    "--format=csv,noheader,nounits",
  );
  return csv.split("\n").flatMap((line) => {
    const match = /^(.+),\s*(\d+|\[N\/A\])\s*$/.exec(line.trim());
    // Chips that share memory with the CPU (Jetson, GB10) answer [N/A].
    return match ? [{ name: match[1]!.trim(), memory_bytes: (Number(match[2]) || 0) * MIB }] : [];
  });
}

async function probeAmd(host: ProbeHost): Promise<Gpu[]> {
  const text = await output(host, "rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json");
  const cards = parseJson(text);
  if (typeof cards !== "object" || cards === null) return [];
  return Object.entries(cards).flatMap(([card, facts]: [string, unknown]) => {
    if (!/^card\d+$/.test(card) || typeof facts !== "object" || facts === null) return [];
    const fact = (pattern: RegExp): string =>
      String(Object.entries(facts).find(([name]) => pattern.test(name))?.[1] ?? "");
    const name = fact(/^card series$/i) || fact(/^card model$/i) || "AMD GPU";
    return [{ name, memory_bytes: Number(fact(/^vram total memory/i)) || 0 }];
  });
}

async function probeApple(host: ProbeHost): Promise<Gpu[]> {
  const [displays, memory] = await Promise.all([
    output(host, "system_profiler", "SPDisplaysDataType", "-json"),
    output(host, "sysctl", "-n", "hw.memsize"),
  ]);
  const parsed = parseJson(displays) as { SPDisplaysDataType?: unknown } | undefined;
  if (!Array.isArray(parsed?.SPDisplaysDataType)) return [];
  return parsed.SPDisplaysDataType.flatMap((entry: unknown) => {
    const model = (entry as { sppci_model?: unknown }).sppci_model;
    // Apple's own chips use the machine's memory.
    return typeof model === "string" ? [{ name: model, memory_bytes: Number(memory.trim()) || 0 }] : [];
  });
}
