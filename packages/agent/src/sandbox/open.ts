/** The sandbox that the provider chose, or the best there is; none is only taken when it is asked for. */
import type { Host } from "../host.ts";
import { openBubblewrap, type SandboxHost } from "./bubblewrap.ts";
import { openContainers } from "./containers.ts";
import { engineEnvironment } from "./machine.ts";
import { type Sandbox, type SandboxSettings, type SandboxStatus, SandboxUnavailable } from "./sandbox.ts";

export type OpenHost = SandboxHost & Pick<Host, "platform" | "log">;

/** Rejects with SandboxUnavailable, which says what to do. */
export async function openSandbox(host: OpenHost, settings: SandboxSettings = {}): Promise<Sandbox> {
  const { kind } = settings;
  switch (kind) {
    case "none":
      return openNone(host);
    case "podman":
    case "docker":
      return openContainers(host, kind, settings);
    case "bwrap":
    case undefined:
      if (settings.runtime !== undefined)
        throw new SandboxUnavailable(
          `${settings.runtime} is a runtime of containers`,
          "Say --sandbox podman or --sandbox docker with it",
        );
      if (host.platform !== "linux")
        throw new SandboxUnavailable(
          "The engine would run without a sandbox: bubblewrap is for Linux",
          "Say --sandbox docker where Docker runs, or --sandbox none if you trust the engine and its models; or start an engine of your own, which the agent finds",
        );
      return openBubblewrap(host, settings).catch((error: unknown) => {
        if (!(error instanceof SandboxUnavailable)) throw error;
        const more = kind ? "" : ", or say --sandbox none to run the engine without a sandbox";
        throw new SandboxUnavailable(error.what, `${error.cure}${more}`);
      });
  }
}

const NO = "not confined";
const NONE: SandboxStatus = {
  ...{ kind: "none", program: "none", network: NO, files: NO, memory: NO, seccomp: NO, gpu: NO },
  processes: "ended with the agent, unless they hide",
  problems: [
    {
      what: "the engine runs without a sandbox: it can do whatever you can on this machine",
      cure: "leave --sandbox none away; on Linux, bubblewrap confines it",
    },
  ],
};

async function openNone(host: OpenHost): Promise<Sandbox> {
  return {
    status: NONE,
    start: async ({ helper, args, env }) => {
      const inherited = [
        "PATH",
        "HOME",
        "USERPROFILE",
        "SystemRoot",
        "TEMP",
        "TMP",
        "TMPDIR",
        "LD_LIBRARY_PATH",
      ];
      const own = inherited.flatMap((name) => (host.env[name] ? [[name, host.env[name]] as const] : []));
      const words = [helper.command, ...helper.args, ...args];
      // A dump of its memory would put prompts on the disk.
      const [command, ...rest] =
        host.platform === "win32"
          ? words
          : ["/bin/sh", "-c", 'ulimit -c 0; exec "$@"', "gfe-engine", ...words];
      return host.spawn(command!, rest, {
        env: { ...engineEnvironment(host), ...Object.fromEntries(own), ...env },
      });
    },
  };
}

/**
 * What is in force with these settings, what is missing and why: for `gfe doctor` and the agent's status. Where no sandbox
 * can be had, `null` with the problem.
 */
export async function describeSandbox(
  host: OpenHost,
  settings: SandboxSettings = {},
): Promise<{ status: SandboxStatus } | { status: null; problem: { what: string; cure: string } }> {
  try {
    return { status: (await openSandbox(host, settings)).status };
  } catch (error) {
    if (!(error instanceof SandboxUnavailable)) throw error;
    return { status: null, problem: { what: error.what, cure: error.cure } };
  }
}
