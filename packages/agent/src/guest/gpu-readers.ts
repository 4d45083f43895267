/** GPUs and who is on them, by their vendors' own tools. */
import { parseJson } from "../body.ts";
import { type GpuProgram, type GpuReading, numberIn, printed, type Reader } from "./readings.ts";

const MIB = 1024 * 1024;

const GPU_QUERY = "name,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw";

/** Lines of `nvidia-smi --query-gpu=… --format=csv,noheader,nounits`; a name may hold commas. */
export function nvidiaGpus(csv: string): GpuReading[] {
  return lines(csv).flatMap((line) => {
    const fields = line.split(",").map((field) => field.trim());
    if (fields.length < 6) return [];
    const [load, used, total, temperature, power] = fields.slice(-5).map(numberIn);
    return [
      {
        name: fields.slice(0, -5).join(", "),
        load_percent: load ?? null,
        memory_used_bytes: bytesOf(used),
        memory_bytes: bytesOf(total),
        temperature_c: temperature ?? null,
        power_w: power ?? null,
      },
    ];
  });
}

/**
 * Lines of `nvidia-smi pmon -c 1 -s um`: gpu, pid, type, sm, mem, …, fb, …, command, by the names in the first comment. C
 * computes, G draws.
 */
export function nvidiaPrograms(table: string): GpuProgram[] {
  const rows = lines(table);
  const heads = (rows[0] ?? "").replace(/^#\s*/, "").split(/\s+/);
  const at = (row: readonly string[], name: string) => row[heads.indexOf(name)];
  return rows.flatMap((line) => {
    if (line.startsWith("#")) return [];
    const row = line.split(/\s+/);
    const type = at(row, "type");
    if (at(row, "pid") === "-" || type === undefined) return [];
    return [
      {
        name: row.slice(heads.indexOf("command")).join(" "),
        memory_bytes: bytesOf(numberIn(at(row, "fb"))),
        load_percent: numberIn(at(row, "sm")),
        draws: type.includes("G"),
      },
    ];
  });
}

export const nvidia: Reader = {
  name: "nvidia-smi",
  async read(host) {
    const csv = await printed(
      host,
      "nvidia-smi",
      `--query-gpu=${GPU_QUERY}`,
      "--format=csv,noheader,nounits",
    );
    if (csv === null) return null;
    const table = await printed(host, "nvidia-smi", "pmon", "-c", "1", "-s", "um");
    return { gpus: nvidiaGpus(csv), ...(table === null ? {} : { programs: nvidiaPrograms(table) }) };
  },
};

/** `rocm-smi … --json`: an object a card, with facts whose names differ from version to version. */
export function amdGpus(json: string): GpuReading[] {
  const cards = parseJson(json);
  if (typeof cards !== "object" || cards === null) return [];
  return Object.entries(cards).flatMap(([card, facts]: [string, unknown]) => {
    if (!/^card\d+$/.test(card) || typeof facts !== "object" || facts === null) return [];
    const fact = (pattern: RegExp): string | undefined =>
      Object.entries(facts).find(([name]) => pattern.test(name))?.[1];
    return [
      {
        name: fact(/^card series$/i) ?? fact(/^card model$/i) ?? "AMD GPU",
        load_percent: numberIn(fact(/^gpu use/i)),
        memory_used_bytes: numberIn(fact(/^vram total used/i)),
        memory_bytes: numberIn(fact(/^vram total memory/i)),
        temperature_c: numberIn(fact(/^temperature \(sensor (junction|edge)\)/i)),
        power_w: numberIn(fact(/power \(w\)$/i)),
      },
    ];
  });
}

export const amd: Reader = {
  name: "rocm-smi",
  async read(host) {
    const asked = ["--showproductname", "--showuse", "--showtemp", "--showpower", "--showmeminfo", "vram"];
    const json = await printed(host, "rocm-smi", ...asked, "--json");
    return json === null ? null : { gpus: amdGpus(json) };
  },
};

/** `ioreg -r -d 1 -w 0 -c IOAccelerator`: statistics of the chip's GPU, which has the machine's memory. */
export function appleGpus(text: string): GpuReading[] {
  return text.split(/^\+-o /m).flatMap((entry) => {
    const statistic = (name: string) => numberIn(new RegExp(`"${name}"\\s*=\\s*(\\d+)`).exec(entry)?.[1]);
    const load = statistic("Device Utilization %");
    if (load === null) return [];
    return [
      {
        name: /"model"\s*=\s*"([^"]+)"/.exec(entry)?.[1] ?? "Apple GPU",
        load_percent: load,
        memory_used_bytes: statistic("In use system memory"),
        memory_bytes: null,
        temperature_c: null,
        power_w: null,
      },
    ];
  });
}

export const apple: Reader = {
  name: "ioreg (GPU)",
  async read(host) {
    const text = await printed(host, "ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator");
    return text === null ? null : { gpus: appleGpus(text) };
  },
};

const lines = (text: string): string[] =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
const bytesOf = (mib: number | null | undefined): number | null =>
  mib === null || mib === undefined ? null : mib * MIB;
