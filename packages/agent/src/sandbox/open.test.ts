import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { RunResult } from "../host.ts";
import { createMemoryFiles } from "../memory-files.ts";
import { createNodeHost } from "../node-host.ts";
import { cgroupCandidates } from "./cgroup.ts";
import { gvisorGpu } from "./gvisor.ts";
import { describeSandbox, type OpenHost } from "./open.ts";

const ran = (stdout: string): RunResult => ({ type: "ran", exitCode: 0, stdout });

/** A machine with these programs and files, and nothing else. */
async function machine(
  programs: Record<string, RunResult>,
  files: Record<string, string> = {},
  platform = "linux",
): Promise<OpenHost> {
  const memory = createMemoryFiles();
  for (const [path, text] of Object.entries(files)) await memory.write(path, text, { mode: 0o644 });
  return {
    ...createNodeHost({ env: {}, files: memory }),
    platform,
    run: async (command) => programs[command] ?? { type: "absent" },
  };
}

describe("a sandbox", () => {
  it.each(["linux", "darwin", "win32"])(
    "is never left out on %s unless that is asked for",
    async (platform) => {
      const host = await machine({}, {}, platform);
      const found = await describeSandbox(host);
      expect(found.status).toBeNull();
      expect(found).toMatchObject({ problem: { cure: expect.stringContaining("--sandbox none") } });
    },
  );

  it("that is none says so, and what it means", async () => {
    const { status } = await describeSandbox(await machine({}), { kind: "none" });
    expect(status).toMatchObject({ kind: "none", network: "not confined", files: "not confined" });
    expect(status?.problems).toEqual([
      { what: expect.stringContaining("without a sandbox"), cure: expect.stringContaining("bubblewrap") },
    ]);
  });

  it.each([
    [{ kind: "podman" as const }, "podman is not installed"],
    [{ kind: "docker" as const }, "docker is not installed"],
    [{ runtime: "runsc" }, "runsc is a runtime of containers"],
  ])("that can't be had is told with its cure: %j", async (settings, what) => {
    expect(await describeSandbox(await machine({}), settings)).toMatchObject({
      status: null,
      problem: { what, cure: expect.stringMatching(/\w/) },
    });
  });
});

describe("gVisor", () => {
  const nvidia = { "/dev/nvidiactl": "", "/dev/nvidia0": "" };
  const look = async (names: string, flags: string, files: Record<string, string> = nvidia) =>
    gvisorGpu(await machine({ "nvidia-smi": ran(names), runsc: ran(flags) }, files));

  it.each(["Tesla T4", "NVIDIA L4", "NVIDIA A100-SXM4-80GB", "NVIDIA A10G", "NVIDIA H100 80GB HBM3"])(
    "passes %s on",
    async (name) => {
      expect(await look(`${name}\n`, "-nvproxy")).toMatchObject({ flags: ["nvproxy=true"], problem: null });
    },
  );

  it.each([["NVIDIA GeForce RTX 4090"], ["NVIDIA L40S"], ["NVIDIA A100-SXM4-80GB\nNVIDIA GeForce RTX 3060"]])(
    "gives no GPU where one is not supported, and says so: %s",
    async (names) => {
      const { devices, problem } = await look(names, "-nvproxy");
      expect(devices).toEqual([]);
      expect(problem?.what).toContain(names.split("\n").at(-1));
      expect(problem?.cure).toContain("bwrap");
    },
  );

  it("that is too old for GPUs, or a GPU of another maker, is told of; no GPU is no problem", async () => {
    expect((await look("Tesla T4", "-platform")).problem?.what).toContain("too old");
    expect((await look("", "-nvproxy", { "/dev/kfd": "", "/dev/dri": "" })).problem?.what).toContain("maker");
    expect((await look("", "", {})).problem).toBeNull();
  });
});

describe("a control group of version 2", () => {
  it("gets its bounds before the engine enters it", async () => {
    const host = await machine(
      {},
      { "/sys/fs/cgroup/cgroup.controllers": "memory pids", "/proc/self/cgroup": "0::/user.slice/a" },
    );
    const groups = await cgroupCandidates(host, { memoryBytes: 1234, processes: 56 }, "id");
    expect(groups.map(({ name }) => name)).toEqual([
      "/sys/fs/cgroup/user.slice/gfe-engine-id",
      "/sys/fs/cgroup/gfe-engine-id",
    ]);
    const folder = mkdtempSync(join(tmpdir(), "gfe-cgroup-"));
    try {
      // A folder like any other stands for the kernel's: what is written there is what counts.
      const script = groups[1]!.enter.replaceAll("/sys/fs/cgroup", folder);
      const pid = execFileSync("/bin/sh", ["-c", `${script}\necho $$`], { encoding: "utf8" }).trim();
      const read = (file: string) => readFileSync(join(folder, "gfe-engine-id", file), "utf8").trim();
      expect([read("memory.max"), read("memory.swap.max"), read("pids.max")]).toEqual(["1234", "0", "56"]);
      expect(read("cgroup.procs")).toBe(pid);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("that can't be written ends the launch instead of running without bounds", async () => {
    const host = await machine({}, { "/sys/fs/cgroup/cgroup.controllers": "", "/proc/self/cgroup": "0::/" });
    const [group] = await cgroupCandidates(host, { memoryBytes: 1, processes: 1 }, "id");
    const script = `${group!.enter.replaceAll("/sys/fs/cgroup", "/proc/nothing")}\necho went on`;
    expect(() => execFileSync("/bin/sh", ["-c", script], { stdio: "pipe" })).toThrow();
  });
});
