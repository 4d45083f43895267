/** The machine by itself: what runs the agent, its files, its disk, its GPUs. */
import { readSettings } from "../control/settings.ts";
import type { Host } from "../host.ts";
import { createHubRecords, HUBS_FILE } from "../hub-records.ts";
import { KEY_FILE, PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE } from "../identity.ts";
import { probeGpus } from "../probe.ts";
import { nodeKeyOf } from "../standing.ts";
import { type Check, compareVersions, failed, ok, warning } from "./check.ts";

/** An agent's own files need a thousandth of it; engines and models need the rest. */
const FREE_BYTES_WARN = 2 * 2 ** 30;
const FREE_BYTES_LEAST = 64 * 2 ** 20;
const TOOL_MS = 5_000;

export function checkRuntime({ runtime, platform }: Host): Check[] {
  const { name, version, least } = runtime;
  return [
    compareVersions(version, least) >= 0
      ? ok("runtime", `${name} ${version} on ${platform}`)
      : failed("runtime", `${name} ${version} is too old`, `install ${name} ${least} or a later one`),
  ];
}

/** Configuration and state: can they be written, and are the secrets nobody else's? */
export async function checkFiles(host: Host): Promise<Check[]> {
  const { config, state } = host.directories;
  const both =
    config === state
      ? [["files", config]]
      : [
          ["configuration", config],
          ["state", state],
        ];
  const checks = await Promise.all(both.map(([name, path]) => writable(host, name!, path!)));
  checks.push(
    ...(
      await Promise.all([KEY_FILE, HUBS_FILE].map((name) => secret(host, host.files.join(config, name))))
    ).flat(),
  );
  checks.push(...(await damaged(host)));
  if (checks.every((check) => check.state !== "failed")) checks.push(await disk(host, state));
  return checks;
}

async function writable({ files, hostName }: Host, name: string, directory: string): Promise<Check> {
  const probe = files.join(directory, `probe-${hostName.replace(/\W/g, "")}.tmp`);
  try {
    await files.makeDirectory(directory, PRIVATE_DIRECTORY_MODE);
    await files.write(probe, "", { mode: PRIVATE_FILE_MODE });
    await files.remove(probe);
    return ok(name, `${directory} can be written`);
  } catch (error) {
    return failed(
      name,
      `${directory} cannot be written: ${(error as Error).message}`,
      "make it yours (chown), free the disk, or give the agent another one with --config-dir",
    );
  }
}

async function secret({ files }: Host, path: string): Promise<Check[]> {
  const facts = await files.facts(path).catch(() => null);
  if (!facts) return [];
  if (facts.mode === null || (facts.mode & 0o077) === 0)
    return [ok("secrets", `${path} is readable by you alone`)];
  return [
    warning(
      "secrets",
      `${path} can be read by other users (mode ${facts.mode.toString(8)})`,
      `chmod 600 ${path}; if you do not trust them, \`gfe uninstall\` and join anew`,
    ),
  ];
}

/** Files that are there and cannot be read: an agent would not start with them, or begin anew. */
async function damaged(host: Host): Promise<Check[]> {
  const { files, directories } = host;
  const keyPath = files.join(directories.config, KEY_FILE);
  const looks: readonly (() => Promise<unknown>)[] = [
    () => createHubRecords(host).origins(),
    () => readSettings(host),
    async () => {
      if ((await files.facts(keyPath)) && (await nodeKeyOf(host)) === null)
        throw new Error(
          `${keyPath} is damaged: restore it from a backup, or move it away to start as a new node`,
        );
    },
  ];
  const looked = await Promise.allSettled(looks.map((look) => look()));
  return looked.flatMap((look) =>
    look.status === "rejected"
      ? [
          failed(
            "files",
            (look.reason as Error).message,
            "do as it says: the agent does not start with a damaged file",
          ),
        ]
      : [],
  );
}

async function disk({ files }: Host, state: string): Promise<Check> {
  try {
    const free = await files.freeBytes(state);
    const words = `${(free / 2 ** 30).toFixed(1)} GiB are free where the state is kept`;
    if (free < FREE_BYTES_LEAST)
      return failed("disk", words, "free some space: nothing can be kept, and engines may fail");
    return free < FREE_BYTES_WARN
      ? warning("disk", words, "free some space before you pull models")
      : ok("disk", words);
  } catch (error) {
    return warning(
      "disk",
      `the free space is not known: ${(error as Error).message}`,
      "look at it with your system's tool",
    );
  }
}

/** GPUs, and a driver that is there and does not answer. */
export async function checkGpus(host: Host): Promise<Check[]> {
  const [gpus, nvidia] = await Promise.all([
    probeGpus(host),
    host.platform === "darwin"
      ? null
      : host.run("nvidia-smi", ["--query-gpu=driver_version", "--format=csv,noheader"], {
          timeoutMs: TOOL_MS,
        }),
  ]);
  const checks = gpus.map(({ name, memory_bytes }) =>
    ok("gpu", memory_bytes > 0 ? `${name}, ${(memory_bytes / 2 ** 30).toFixed(1)} GiB` : name),
  );
  const reboot = "reboot after a driver's update, or install the driver of your GPU anew";
  if (nvidia?.type === "timeout") checks.push(failed("driver", "nvidia-smi does not answer", reboot));
  else if (nvidia?.type === "ran" && nvidia.exitCode !== 0)
    checks.push(
      failed(
        "driver",
        `nvidia-smi fails: ${nvidia.stdout.trim().split("\n")[0] || `status ${nvidia.exitCode}`}`,
        reboot,
      ),
    );
  else if (nvidia?.type === "ran") checks.push(ok("driver", `NVIDIA ${nvidia.stdout.trim().split("\n")[0]}`));
  if (checks.length === 0)
    checks.push(
      warning(
        "gpu",
        "no GPU was found: models run on the CPU, slowly, and few consumers wait for that",
        "install the driver with its tool (nvidia-smi or rocm-smi), if this machine has a GPU",
      ),
    );
  return checks;
}
