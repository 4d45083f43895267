/**
 * Bubblewrap: own namespaces, nothing of the disk but /usr and what the engine needs, both read only, no network. A shell goes
 * before it, for what has to be there when it starts: the group with its bounds, the filter of system calls on a descriptor,
 * and no dumps of memory, which would put prompts on the disk. Each takes the place of the one before, so bubblewrap is the
 * agent's child and dies with it.
 */
import type { Child, Host } from "../host.ts";
import { type Cgroup, cgroupCandidates, NO_CGROUP, ownGroup, removeGroups } from "./cgroup.ts";
import {
  architectureOf,
  boundsHold,
  engineEnvironment,
  gpuDevices,
  inMib,
  memoryLimit,
  quoted,
  SAY_BOUNDS,
  trial,
} from "./machine.ts";
import {
  SANDBOX_LIMITS,
  type Sandbox,
  type SandboxProblem,
  type SandboxSettings,
  SandboxUnavailable,
  type ToConfine,
} from "./sandbox.ts";
import { seccompProgram } from "./seccomp.ts";

export type SandboxHost = Pick<
  Host,
  "files" | "env" | "run" | "spawn" | "helper" | "directories" | "random" | "after"
>;

const INSTALL = "Install it (Debian, Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap)";

/** Rejects with SandboxUnavailable where it is missing or does not work. */
export async function openBubblewrap(host: SandboxHost, settings: SandboxSettings): Promise<Sandbox> {
  const help = await host.run("bwrap", ["--help"], { timeoutMs: SANDBOX_LIMITS.trialMs });
  if (help.type !== "ran") throw new SandboxUnavailable("bubblewrap is not installed", INSTALL);
  const version = await host.run("bwrap", ["--version"], { timeoutMs: SANDBOX_LIMITS.trialMs });
  const memoryBytes = await memoryLimit(host, settings);
  const processes = settings.processes ?? SANDBOX_LIMITS.processes;
  const scratchBytes = help.stdout.includes("--size")
    ? (settings.scratchBytes ?? SANDBOX_LIMITS.scratchBytes)
    : null;
  const architecture = await architectureOf(host);
  const filter = architecture && seccompProgram(architecture);
  const devices = await gpuDevices(host);
  const id = Math.floor(host.random() * 2 ** 48).toString(16);

  let starts = 0;
  const launch = (what: ToConfine, shared: Cgroup): Child => {
    const cgroup = ownGroup(shared, id, ++starts);
    const script = launchScript(filter, cgroup);
    const args = bubblewrapArguments(what, { scratchBytes, devices: what.gpu ? devices : [] });
    const bus = ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"].flatMap((name) =>
      host.env[name] ? [[name, host.env[name]] as const] : [],
    );
    const env = { ...Object.fromEntries(bus), ...engineEnvironment(host), ...what.env };
    const child = host.spawn("/bin/sh", ["-c", script, "gfe-engine", ...args], { env, directory: "/" });
    if (cgroup.folders.length > 0)
      void child.ended.then(() =>
        host.run("/bin/sh", ["-c", removeGroups(cgroup)], { timeoutMs: SANDBOX_LIMITS.trialMs }),
      );
    return child;
  };

  const problems: SandboxProblem[] = [];
  const candidates = await cgroupCandidates(host, { memoryBytes, processes }, id);
  let cgroup: Cgroup | null = null;
  let failure = "";
  for (const candidate of [...candidates, NO_CGROUP]) {
    if (!(await kept(host, candidate, memoryBytes, processes))) continue;
    ({ failure } = await trial(host, launch(TRIAL, candidate)));
    if (failure === "") {
      cgroup = candidate;
      break;
    }
  }
  if (!cgroup)
    throw new SandboxUnavailable(
      `bubblewrap does not work here: ${failure}`,
      "Allow user namespaces (sysctl kernel.unprivileged_userns_clone=1; on Ubuntu 24.04 and later an AppArmor profile for /usr/bin/bwrap), or take --sandbox podman",
    );
  if (!cgroup.memory || !cgroup.processes)
    problems.push({
      what: `${[cgroup.memory ? "" : "memory", cgroup.processes ? "" : "processes"].filter(Boolean).join(" and ")} can't be capped: no control group may be written`,
      cure: "run the agent in a login session of systemd, or as a systemd service with Delegate=yes",
    });
  if (scratchBytes === null)
    problems.push({
      what: "room for scratch files is bounded by the machine's memory only",
      cure: "install bubblewrap 0.7 or later",
    });
  if (!filter)
    problems.push({
      what: "system calls are not filtered on this architecture",
      cure: "none yet: x86-64 and arm64 are known",
    });
  return {
    status: {
      kind: "bwrap",
      program: version.type === "ran" ? version.stdout.trim() : "bubblewrap",
      network: "none: the agent speaks to the engine over pipes",
      files: `/usr, the engine and its models, read only; ${scratchBytes === null ? "scratch in memory" : `${inMib(scratchBytes)} of scratch in memory`}; no home`,
      memory: cgroup.memory && memoryBytes !== null ? `${inMib(memoryBytes)} at most` : "not capped",
      processes: cgroup.processes
        ? `${processes} at most, none outlives the agent`
        : "not capped, none outlives the agent",
      seccomp: filter ? `filtered (${architecture})` : "not filtered",
      gpu: devices.length > 0 ? `${devices.join(", ")}, where the engine may use it` : "none here",
      problems,
    },
    start: async (what) => launch(what, cgroup),
  };
}

/** systemd takes bounds that it then does not set: whether they are in force is asked of the kernel. */
async function kept(
  host: Pick<Host, "run">,
  { prefix }: Cgroup,
  memoryBytes: number | null,
  processes: number,
): Promise<boolean> {
  const [command, ...words] = prefix;
  if (command === undefined) return true;
  const said = await host.run(command, [...words, "/bin/sh", "-c", SAY_BOUNDS], {
    timeoutMs: SANDBOX_LIMITS.trialMs,
  });
  if (said.type !== "ran" || said.exitCode !== 0) return false;
  const bounds = boundsHold(said.stdout, memoryBytes, processes);
  return bounds.memory && bounds.processes;
}

/** Does nothing, in the sandbox. */
const TRIAL: ToConfine = {
  helper: { command: "/bin/sh", args: ["-c", ":"], reads: [] },
  ...{ args: [], env: {}, files: [], gpu: false },
};

/** The words behind the script are bubblewrap's. */
function launchScript(filter: Uint8Array | null, cgroup: Cgroup): string {
  const words = [...cgroup.prefix, "bwrap", ...(filter ? ["--seccomp", "9"] : [])].map(quoted).join(" ");
  return [
    "set -u",
    "umask 077",
    "ulimit -c 0",
    ...(filter ? [openFilter(filter)] : []),
    cgroup.enter,
    `exec ${words} "$@"`,
  ]
    .filter(Boolean)
    .join("\n");
}

/** A shell has no binary strings, but printf writes any byte. The file has gone before anything could read it. */
function openFilter(filter: Uint8Array): string {
  const octal = [...filter].map((byte) => `\\${byte.toString(8).padStart(3, "0")}`).join("");
  return `file=$(mktemp) && printf '${octal}' > "$file" && exec 9< "$file" && rm "$file" || exit 125`;
}

/** What every program needs of a system. */
export const SYSTEM_FILES = [
  "/usr",
  ...[
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
  ],
  ...["/etc/alternatives", "/sys/devices/system/cpu"],
];
/** What drivers of GPUs read. */
const GPU_FILES = [
  ...[
    "/etc/vulkan",
    "/etc/OpenCL",
    "/etc/glvnd",
    "/etc/nvidia",
    "/opt/rocm",
    "/opt/cuda",
    "/run/opengl-driver",
  ],
  ...[
    "/nix/store",
    "/sys/dev/char",
    "/sys/devices",
    "/sys/class/drm",
    "/sys/class/kfd",
    "/sys/module/nvidia",
  ],
  ...["/sys/module/amdgpu", "/sys/bus/pci"],
];

interface Shape {
  /** Null where this bubblewrap knows no bound. */
  scratchBytes: number | null;
  devices: readonly string[];
}

function bubblewrapArguments(what: ToConfine, { scratchBytes, devices }: Shape): string[] {
  const { helper, files, env } = what;
  const scratch = (path: string) => [
    ...(scratchBytes === null ? [] : ["--size", String(scratchBytes)]),
    ...["--tmpfs", path],
  ];
  const readable = [...SYSTEM_FILES, ...(devices.length > 0 ? GPU_FILES : [])];
  return [
    ...["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"],
    ...["--unshare-cgroup-try", "--hostname", "engine", "--uid", "65534", "--gid", "65534"],
    ...["--cap-drop", "ALL", "--die-with-parent", "--new-session"],
    ...["PWD", "OLDPWD", "_", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"]
      .filter((name) => !(name in env))
      .flatMap((name) => ["--unsetenv", name]),
    ...readable.flatMap((path) => ["--ro-bind-try", path, path]),
    ...["--proc", "/proc", "--dev", "/dev"],
    ...devices.flatMap((path) => ["--dev-bind-try", path, path]),
    ...scratch("/tmp"),
    ...scratch("/dev/shm"),
    ...helper.reads.flatMap((path) => ["--ro-bind", path, path]),
    ...files.flatMap(({ from, to }) => ["--ro-bind", from, to]),
    // The first two are memory without a bound otherwise; under root's agent, the third has files that rule the machine.
    ...["--remount-ro", "/dev", "--remount-ro", "/proc", "--remount-ro", "/", "--chdir", "/tmp", "--"],
    ...[helper.command, ...helper.args, ...what.args],
  ];
}
