/**
 * Bounds on memory and processes by a control group: what an engine and all that it starts use together. `prlimit` bounds
 * each process by itself, and counts what is only mapped, so it is no substitute.
 */
import type { Host } from "../host.ts";
import { quoted, textOf } from "./machine.ts";

export interface CgroupLimits {
  /** Null for no bound. */
  memoryBytes: number | null;
  processes: number;
}

export interface Cgroup {
  /** For people. */
  name: string;
  memory: boolean;
  processes: boolean;
  /** Shell: puts the shell into the group, or ends it. */
  enter: string;
  /** Words before the command. */
  prefix: readonly string[];
  /** Folders to remove when all in them has ended. */
  folders: readonly string[];
}

export const NO_CGROUP: Cgroup = {
  ...{ name: "none", memory: false, processes: false },
  ...{ enter: "", prefix: [], folders: [] },
};

const ROOT = "/sys/fs/cgroup";
const PREFIX = "gfe-engine-";

/** What may work here, best first; each has to be tried. `id` tells engines of one machine apart. */
export async function cgroupCandidates(
  host: Pick<Host, "files" | "env">,
  limits: CgroupLimits,
  id: string,
): Promise<Cgroup[]> {
  const { files, env } = host;
  const own = ownGroups(await textOf(files, "/proc/self/cgroup"));
  const exists = async (path: string) => (await files.facts(path).catch(() => null)) !== null;
  const found: Cgroup[] = [];
  if (await exists("/run/systemd/system")) {
    if (env.XDG_RUNTIME_DIR) found.push(systemdScope("--user", limits));
    found.push(systemdScope("--system", limits));
  }
  if (await exists(`${ROOT}/cgroup.controllers`)) {
    const parents = [`${ROOT}${parentOf(own.get("") ?? "/")}`, ROOT];
    for (const parent of new Set(parents.map((path) => path.replace(/\/+$/, ""))))
      found.push(unifiedGroup(parent, id, limits));
  }
  const old = (controller: string) =>
    [`${ROOT}/${controller}${own.get(controller) ?? "/"}`, `${ROOT}/${controller}`].map((path) =>
      path.replace(/\/+$/, ""),
    );
  const [memoryParents, processParents] = [old("memory"), old("pids")];
  for (const [index, parent] of memoryParents.entries()) {
    if (!(await exists(`${parent}/memory.limit_in_bytes`)) && !(await exists(`${parent}/cgroup.procs`)))
      continue;
    const pids = processParents[index]!;
    found.push(oldGroup(parent, (await exists(`${pids}/cgroup.procs`)) ? pids : null, id, limits));
    break;
  }
  return found;
}

/** The same for one start: two engines in one group would share its bounds. */
export function ownGroup(cgroup: Cgroup, id: string, start: number): Cgroup {
  const own = (text: string) => text.replaceAll(`${PREFIX}${id}`, `${PREFIX}${id}-${start}`);
  return { ...cgroup, enter: own(cgroup.enter), folders: cgroup.folders.map(own) };
}

/**
 * Shell: removes the group, for which the last of its processes has to be gone, and those that agents left which were killed. A
 * group in use can't be removed; a new one is left alone until its engine has entered it.
 */
export const removeGroups = ({ folders }: Cgroup): string =>
  folders
    .map((folder) => {
      const parent = quoted(parentOf(folder));
      return `for try in 1 2 3 4 5 6 7 8 9 10; do rmdir ${quoted(folder)} 2>/dev/null && break; sleep 0.1; done
find ${parent} -maxdepth 1 -name '${PREFIX}*' -mmin +1 -exec rmdir {} + 2>/dev/null`;
    })
    .join("\n");

/** Controller to path; "" is the unified hierarchy. */
function ownGroups(text: string): Map<string, string> {
  return new Map(
    text.split("\n").flatMap((line): [string, string][] => {
      const match = /^\d+:([^:]*):(.+)$/.exec(line);
      return match ? match[1]!.split(",").map((controller) => [controller, match[2]!]) : [];
    }),
  );
}

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf("/"));

function systemdScope(manager: "--user" | "--system", { memoryBytes, processes }: CgroupLimits): Cgroup {
  const memory = memoryBytes === null ? [] : ["-p", `MemoryMax=${memoryBytes}`, "-p", "MemorySwapMax=0"];
  return {
    name: `a systemd scope (${manager.slice(2)})`,
    memory: memoryBytes !== null,
    processes: true,
    enter: "",
    // The scope's command takes the place of systemd-run: it stays the agent's child.
    prefix: [
      ...["systemd-run", manager, "--scope", "--quiet", "--collect", "--no-ask-password"],
      ...[...memory, "-p", `TasksMax=${processes}`, "--"],
    ],
    folders: [],
  };
}

const FAIL = "|| exit 125";

function unifiedGroup(parent: string, id: string, { memoryBytes, processes }: CgroupLimits): Cgroup {
  const folder = `${parent}/${PREFIX}${id}`;
  const put = (value: string | number, file: string) =>
    `echo ${value} > ${quoted(`${folder}/${file}`)} ${FAIL}`;
  return {
    name: folder,
    memory: memoryBytes !== null,
    processes: true,
    enter: [
      `mkdir -p ${quoted(folder)} ${FAIL}`,
      ...(memoryBytes === null
        ? []
        : [put(memoryBytes, "memory.max"), put(0, "memory.swap.max").replace(FAIL, "2>/dev/null || :")]),
      put(processes, "pids.max"),
      put("$$", "cgroup.procs"),
    ].join("\n"),
    prefix: [],
    folders: [folder],
  };
}

/** The first version, with a hierarchy for each controller; some machines have memory there and nothing else. */
function oldGroup(
  memoryParent: string,
  pidsParent: string | null,
  id: string,
  { memoryBytes, processes }: CgroupLimits,
): Cgroup {
  const memory = `${memoryParent}/${PREFIX}${id}`;
  const pids = pidsParent === null ? null : `${pidsParent}/${PREFIX}${id}`;
  const put = (value: string | number, path: string) => `echo ${value} > ${quoted(path)} ${FAIL}`;
  return {
    name: memory,
    memory: memoryBytes !== null,
    processes: pids !== null,
    enter: [
      `mkdir -p ${quoted(memory)} ${FAIL}`,
      ...(memoryBytes === null
        ? []
        : [
            put(memoryBytes, `${memory}/memory.limit_in_bytes`),
            put(memoryBytes, `${memory}/memory.memsw.limit_in_bytes`).replace(FAIL, "2>/dev/null || :"),
          ]),
      put("$$", `${memory}/cgroup.procs`),
      ...(pids === null
        ? []
        : [
            `mkdir -p ${quoted(pids)} ${FAIL}`,
            put(processes, `${pids}/pids.max`),
            put("$$", `${pids}/cgroup.procs`),
          ]),
    ].join("\n"),
    prefix: [],
    folders: [memory, ...(pids === null ? [] : [pids])],
  };
}
