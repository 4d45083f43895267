/**
 * Podman or Docker: for who has them, for engines that come as an image, and for gVisor (`runsc`), whose kernel stands between
 * an engine and the machine's. A container is no child of who starts it, so a guard stays beside it: a shell that removes it
 * when the agent has gone.
 */
import type { Child } from "../host.ts";
import { type SandboxHost, SYSTEM_FILES } from "./bubblewrap.ts";
import { type ContainerProgram, guard, type Way, waysOf } from "./container-ways.ts";
import { gvisorGpu } from "./gvisor.ts";
import {
  boundsHold,
  engineEnvironment,
  gpuDevices,
  inMib,
  memoryLimit,
  SAY_BOUNDS,
  trial,
} from "./machine.ts";
import { type Placed, portableHelper } from "./portable-helper.ts";
import {
  SANDBOX_LIMITS,
  type Sandbox,
  type SandboxProblem,
  type SandboxSettings,
  SandboxUnavailable,
  type ToConfine,
} from "./sandbox.ts";
import { writeProfile } from "./seccomp-profile.ts";

/** The agent's own environment that these programs need: where their daemon and their settings are. */
const OWN = [
  "PATH",
  "HOME",
  "USER",
  "XDG_RUNTIME_DIR",
  "XDG_CONFIG_HOME",
  "DBUS_SESSION_BUS_ADDRESS",
  "DOCKER_HOST",
  "DOCKER_CONTEXT",
];

/** Rejects with SandboxUnavailable where it is missing or can't start a container. */
export async function openContainers(
  host: SandboxHost,
  program: ContainerProgram,
  settings: SandboxSettings,
): Promise<Sandbox> {
  const version = await host.run(program, ["--version"], { timeoutMs: SANDBOX_LIMITS.trialMs });
  if (version.type !== "ran" || version.exitCode !== 0)
    throw new SandboxUnavailable(
      `${program} is not installed`,
      `Install it, or leave --sandbox ${program} away`,
    );
  if (program === "docker" && settings.image === undefined)
    throw new SandboxUnavailable(
      "Docker starts containers from images only",
      "Name one that is there: --engine-image debian:stable-slim does for the built-in engine, after docker pull debian:stable-slim",
    );
  const { runtime } = settings;
  const gpu =
    runtime === "runsc"
      ? await gvisorGpu(host)
      : { flags: [], devices: await gpuDevices(host), problem: null };
  const memoryBytes = await memoryLimit(host, settings);
  const processes = settings.processes ?? SANDBOX_LIMITS.processes;
  const scratchBytes = settings.scratchBytes ?? SANDBOX_LIMITS.scratchBytes;
  const root = await rootOf(host, settings);
  const identity = program === "docker" ? await ownIdentity(host) : [];
  const profile = program === "podman" && runtime !== "runsc" ? await writeProfile(host) : null;
  const mounts = await existing(host, SYSTEM_FILES);
  const portable = root.isWhole ? await portableHelper(host) : null;
  const own = Object.fromEntries(OWN.flatMap((name) => (host.env[name] ? [[name, host.env[name]]] : [])));

  const launch = (what: ToConfine, way: Way): Child => {
    const name = `gfe-engine-${Math.floor(host.random() * 2 ** 48).toString(16)}`;
    const devices = what.gpu ? gpu.devices : [];
    const isImage = root.isWhole && what.inImage === true;
    const helper: Placed = isImage && portable ? portable(what.helper) : what.helper;
    const { files, args } = what;
    const env = { ...engineEnvironment(host), ...what.env };
    const reads = [...(isImage ? [] : mounts), ...helper.reads].map((path) => ({ from: path, to: path }));
    const words = [
      ...[
        program,
        ...way.global,
        "run",
        "--rm",
        "-i",
        "--name",
        name,
        "--pull",
        "never",
        ...way.flags,
        ...identity,
      ],
      ...["--network", "none", "--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"],
      ...(profile ? ["--security-opt", `seccomp=${profile}`] : []),
      ...(program === "podman" ? ["--read-only-tmpfs=false"] : []),
      ...[
        "--log-driver",
        "none",
        "--hostname",
        "engine",
        "--workdir",
        "/tmp",
        "--shm-size",
        String(scratchBytes),
      ],
      ...["--tmpfs", `/tmp:rw,nosuid,nodev,size=${scratchBytes},mode=1777`],
      ...Object.entries(env).flatMap(([variable, value]) => ["--env", `${variable}=${value}`]),
      ...[...reads, ...(helper.places ?? []), ...files].flatMap(({ from, to }) => ["-v", `${from}:${to}:ro`]),
      ...devices.flatMap((path) => ["--device", path]),
      ...["--entrypoint", helper.command, ...root.words, ...helper.args, ...args],
    ];
    const remove = [
      program,
      ...way.global,
      "rm",
      "--force",
      ...(program === "podman" ? ["--time", "0"] : []),
      name,
    ];
    const child = host.spawn("/bin/sh", ["-c", guard(words, remove)], { env: own, directory: "/" });
    const ended = child.ended.then(async (end) => {
      // Where the guard was killed before it could.
      await host.run(remove[0]!, remove.slice(1), { timeoutMs: SANDBOX_LIMITS.trialMs });
      return end;
    });
    return { ...child, kill: () => child.kill("SIGTERM"), ended };
  };

  const caps = [
    ...(memoryBytes === null ? [] : ["--memory", String(memoryBytes), "--memory-swap", String(memoryBytes)]),
    ...["--pids-limit", String(processes)],
  ];
  let way: Way | null = null;
  let failure = "";
  let bounds = { memory: false, processes: false };
  for (const candidate of waysOf(program, runtime, gpu.flags, caps)) {
    const tried = await trial(host, launch(TRIAL, candidate));
    failure = tried.failure;
    if (failure !== "") continue;
    way = candidate;
    bounds = boundsHold(tried.said, memoryBytes, processes);
    break;
  }
  if (!way)
    throw new SandboxUnavailable(
      `${program} starts no container here: ${failure}`,
      `Try: ${program} run --rm ${root.words.at(-1)} true`,
    );
  const isGvisor = runtime === "runsc";
  const problems: SandboxProblem[] = [
    ...(bounds.memory && bounds.processes
      ? []
      : [
          {
            what:
              isGvisor && way.capped
                ? "memory and processes may not be capped: from inside gVisor that can't be seen"
                : "memory and processes can't be capped: this container runtime sets no bounds here",
            cure: "let systemd delegate control groups to you (Delegate=yes), with version 2 of them",
          },
        ]),
    ...(gpu.problem ? [gpu.problem] : []),
  ];
  return {
    status: {
      kind: program,
      program: `${version.stdout.trim()}${runtime ? ` with ${runtime}` : ""}`,
      network: "none: the agent speaks to the engine over pipes",
      files: `${root.isWhole ? "the image" : "/usr"}, the engine and its models, read only; ${inMib(scratchBytes)} of scratch in memory; no home`,
      memory: bounds.memory && memoryBytes !== null ? `${inMib(memoryBytes)} at most` : "not capped",
      processes: `${bounds.processes ? `${processes} at most` : "not capped"}, none outlives the agent`,
      seccomp: isGvisor
        ? "gVisor's own kernel answers all system calls"
        : `filtered (${program}'s list${profile ? " and the agent's" : ""})`,
      gpu: gpu.devices.length > 0 ? `${gpu.devices.join(", ")}, where the engine may use it` : "none",
      problems,
    },
    start: async (what) => launch(what, way),
  };
}

const TRIAL: ToConfine = {
  helper: { command: "/bin/sh", args: ["-c", SAY_BOUNDS], reads: [] },
  ...{ args: [], env: {}, files: [], gpu: false },
};

interface Root {
  words: readonly string[];
  /** It has a system of its own; otherwise this machine's /usr is laid over it. */
  isWhole: boolean;
}

async function rootOf(host: SandboxHost, { image }: SandboxSettings): Promise<Root> {
  if (image !== undefined && !image.startsWith("/")) return { words: [image], isWhole: true };
  const folder = image ?? host.files.join(host.directories.state, "sandbox-root");
  if (image === undefined) await host.files.makeDirectory(folder, 0o755);
  return { words: ["--rootfs", folder], isWhole: image !== undefined };
}

/** Docker's daemon is root: without this the engine would be too. */
async function ownIdentity(host: SandboxHost): Promise<string[]> {
  const ask = async (flag: string) => {
    const result = await host.run("id", [flag], { timeoutMs: SANDBOX_LIMITS.trialMs });
    return result.type === "ran" ? result.stdout.trim() : "";
  };
  const [user, group] = [await ask("-u"), await ask("-g")];
  return /^\d+$/.test(user) && /^\d+$/.test(group) ? ["--user", `${user}:${group}`] : [];
}

async function existing(host: SandboxHost, paths: readonly string[]): Promise<string[]> {
  const facts = await Promise.all(paths.map((path) => host.files.facts(path).catch(() => null)));
  return paths.filter((_, index) => facts[index] !== null);
}
