/** The slim executable as it lies on the machine. */
import { BUILD } from "../build.ts";
import type { Program } from "../program.ts";
import type { Native } from "./native.ts";

const SYSTEMS: Partial<Record<string, "linux" | "windows" | "macos">> = {
  ...{ linux: "linux", win32: "windows", darwin: "macos" },
};

export function createSlimProgram(native: Native): Program {
  const { executable, args, arch } = native;
  const os = SYSTEMS[native.platform];
  return {
    kind: BUILD.kind,
    command: [executable],
    args,
    target: os && (arch === "x64" || arch === "arm64") ? { os, arch, kind: "slim" } : null,
    replace: (file, previous) => native.replaceProgram(executable, file, previous),
    restart: () => native.become(executable, args),
  };
}
