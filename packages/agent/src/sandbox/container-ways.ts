/** The ways to run a container that machines differ in, and what stays beside one until it ends. */
import { quoted } from "./machine.ts";

export type ContainerProgram = "podman" | "docker";

/** One way to run a container; which of them a machine can do has to be tried. */
export interface Way {
  /** Before `run`. */
  global: readonly string[];
  /** Behind it. */
  flags: readonly string[];
  capped: boolean;
}

/** From what most machines can do to what some need: a low bound on files, the other runtime, no systemd, no bounds. */
export function waysOf(
  program: ContainerProgram,
  runtime: string | undefined,
  gpuFlags: readonly string[],
  caps: readonly string[],
): Way[] {
  const way = (global: readonly string[], limits: readonly string[], capped = true): Way => ({
    global,
    capped,
    flags: [...limits, ...(capped ? caps : [])],
  });
  if (program === "docker") {
    const chosen = runtime ? ["--runtime", runtime] : [];
    return [way([], chosen), way([], chosen, false)];
  }
  const low = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];
  const cgroupfs = ["--cgroup-manager", "cgroupfs"];
  if (runtime === "runsc") {
    // Where it had a network to set up, gVisor would fail: this way it has none at all.
    const flags = ["network=none", ...gpuFlags].flatMap((flag) => ["--runtime-flag", flag]);
    const gvisor = ["--runtime", runtime, ...flags];
    return [
      way(gvisor, []),
      way([...cgroupfs, ...gvisor], low),
      way([...gvisor, "--runtime-flag", "ignore-cgroups"], [], false),
    ];
  }
  const chosen = runtime ? ["--runtime", runtime] : [];
  const other = runtime ? chosen : ["--runtime", "runc"];
  return [
    ...[way(chosen, []), way(chosen, low), way(other, low), way([...cgroupfs, ...other], low)],
    ...[way(chosen, low, false), way([...cgroupfs, ...other], low, false)],
  ];
}

/** Runs `words` with the shell's input, and `remove` once that, its parent or the shell itself comes to an end. */
export function guard(words: readonly string[], remove: readonly string[]): string {
  const spell = (all: readonly string[]) => all.map(quoted).join(" ");
  return `ulimit -c 0
agent=$PPID
end() { ${spell(remove)} >/dev/null 2>&1; exit "$1"; }
trap 'end 143' TERM
exec 3<&0
${spell(words)} <&3 3<&- &
main=$!
exec 3<&- </dev/null
( while read -r _ _ _ parent _ < /proc/$$/stat && [ "$parent" = "$agent" ]; do sleep 0.5; done; kill -TERM $$ 2>/dev/null ) >/dev/null 2>&1 &
watch=$!
wait $main
code=$?
kill $watch 2>/dev/null
end $code`;
}
