/** The agent as a service of its user: made, asked and removed through the system's own tools, never as root. */
import type { Host, RunResult } from "../host.ts";
import { launchAgent, logonTask, SERVICE, systemdUnit } from "./definitions.ts";

const TOOL_MS = 30_000;

export type ServiceHost = Pick<Host, "platform" | "env" | "directories" | "files" | "run">;

export interface Service {
  /** What lies on the machine because of it. */
  readonly paths: readonly string[];
  installed(): Promise<boolean>;
  /** Writes what it is and starts it, now and at each log-in. `words` is the program and all it is given. */
  install(words: readonly string[], token: string | undefined): Promise<void>;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Ends and removes it. */
  uninstall(): Promise<void>;
  status(): Promise<{ running: boolean; detail: string }>;
  /** What its owner may do besides; nothing of it is done here. */
  readonly hints: readonly string[];
}

/** In words for who asked: the system's tool is absent or did not do it. */
export class ServiceError extends Error {}

/** Throws ServiceError on a system without services that are a user's own. */
export function serviceOf(host: ServiceHost): Service {
  switch (host.platform) {
    case "linux":
      return systemdService(host);
    case "darwin":
      return launchdService(host);
    case "win32":
      return windowsService(host);
  }
  throw new ServiceError(
    `there is no way to make a service on ${host.platform}: start \`gfe up\` by what starts programs there`,
  );
}

/** The service that is there; null where there is none, or can be none. */
export async function installedService(host: ServiceHost): Promise<Service | null> {
  try {
    const service = serviceOf(host);
    return (await service.installed()) ? service : null;
  } catch {
    return null;
  }
}

function systemdService(host: ServiceHost): Service {
  const { files, env, directories } = host;
  const folder = files.join(env.XDG_CONFIG_HOME || files.join(homeOf(host), ".config"), "systemd", "user");
  const unit = files.join(folder, SERVICE.systemd);
  const environmentFile = files.join(directories.config, "service.env");
  const absent =
    "systemd runs no services for users here: start `gfe up` by what starts programs on this machine";
  const systemctl = (...args: string[]) => done(host, absent, "systemctl", "--user", ...args);
  return {
    paths: [unit, environmentFile],
    installed: async () => (await files.facts(unit)) !== null,
    async install(words, token) {
      for (const word of [...words, environmentFile]) refuseLines(word);
      await systemctl("show-environment"); // before anything is written
      await files.makeDirectory(folder, 0o755);
      await files.makeDirectory(directories.config, 0o700);
      // The program reads it as text between quotes: a token has no letter that would mean anything there.
      if (token === undefined) await files.remove(environmentFile);
      else await files.write(environmentFile, `GFE_AGENT_TOKEN="${plain(token)}"\n`, { mode: 0o600 });
      await files.write(unit, systemdUnit({ words, environmentFile }), { mode: 0o644 });
      await systemctl("daemon-reload");
      await systemctl("enable", SERVICE.systemd);
      await systemctl("restart", SERVICE.systemd);
    },
    start: async () => void (await systemctl("start", SERVICE.systemd)),
    stop: async () => void (await systemctl("stop", SERVICE.systemd)),
    async uninstall() {
      // What is half there goes as well; a machine whose systemd is gone keeps no files of ours for it.
      await systemctl("disable", "--now", SERVICE.systemd).catch(() => {});
      for (const path of [unit, environmentFile]) await files.remove(path);
      await systemctl("daemon-reload").catch(() => {});
    },
    async status() {
      const shown = await systemctl("show", SERVICE.systemd, "-p", "ActiveState,SubState,NRestarts,Result");
      const facts = new Map(shown.split("\n").map((line) => line.split("=", 2) as [string, string]));
      const restarts = Number(facts.get("NRestarts") ?? 0);
      return {
        running: facts.get("ActiveState") === "active",
        detail: `${facts.get("ActiveState")} (${facts.get("SubState")})${restarts > 0 ? `, restarted ${restarts} times` : ""}${
          facts.get("Result") === "success" ? "" : `, ${facts.get("Result")}`
        }`,
      };
    },
    hints: [
      "To go on while you are not logged in: loginctl enable-linger",
      `Its words: journalctl --user -u ${SERVICE.systemd}`,
    ],
  };
}

function launchdService(host: ServiceHost): Service {
  const { files } = host;
  const folder = files.join(homeOf(host), "Library", "LaunchAgents");
  const path = files.join(folder, `${SERVICE.launchd}.plist`);
  const launchctl = (...args: string[]) => done(host, "launchctl is not here", "launchctl", ...args);
  const domain = async () => `gui/${(await done(host, "id is not here", "id", "-u")).trim()}`;
  const target = async () => `${await domain()}/${SERVICE.launchd}`;
  return {
    paths: [path],
    installed: async () => (await files.facts(path)) !== null,
    async install(words, token) {
      await files.makeDirectory(folder, 0o755);
      await launchctl("bootout", await target()).catch(() => {}); // of an earlier time
      const environment: Record<string, string> =
        token === undefined ? {} : { GFE_AGENT_TOKEN: plain(token) };
      await files.write(path, launchAgent(words, environment), { mode: 0o600 });
      await launchctl("bootstrap", await domain(), path);
    },
    start: async () => void (await launchctl("kickstart", await target())),
    stop: async () => void (await launchctl("kill", "SIGTERM", await target())),
    async uninstall() {
      await launchctl("bootout", await target()).catch(() => {});
      await files.remove(path);
    },
    async status() {
      const shown = await launchctl("print", await target()).catch(() => "state = not loaded");
      const state = /^\s*state = (.+)$/m.exec(shown)?.[1] ?? "unknown";
      return { running: state === "running", detail: state };
    },
    hints: [],
  };
}

function windowsService(host: ServiceHost): Service {
  const { files, env, directories } = host;
  const path = files.join(directories.state, "service.xml");
  const schtasks = (...args: string[]) => done(host, "schtasks is not here", "schtasks", ...args);
  const task = ["/TN", SERVICE.windows];
  return {
    paths: [path],
    installed: async () => (await files.facts(path)) !== null,
    async install(words, token) {
      if (token !== undefined)
        throw new ServiceError(
          "a task of Windows keeps no secret: run `gfe up` once and approve it in the browser, then install the service without a token",
        );
      const user = [env.USERDOMAIN, env.USERNAME].filter(Boolean).join("\\");
      await files.makeDirectory(directories.state, 0o700);
      await files.write(path, logonTask(words, user), { mode: 0o600 });
      await schtasks("/Create", ...task, "/XML", path, "/F");
      await schtasks("/Run", ...task);
    },
    start: async () => void (await schtasks("/Run", ...task)),
    stop: async () => void (await schtasks("/End", ...task)),
    async uninstall() {
      await schtasks("/End", ...task).catch(() => {});
      await schtasks("/Delete", ...task, "/F").catch(() => {});
      await files.remove(path);
    },
    async status() {
      const shown = await schtasks("/Query", ...task, "/FO", "CSV", "/NH");
      const state = /"([^"]*)"\s*$/.exec(shown.trim())?.[1] ?? "unknown";
      return { running: /running/i.test(state), detail: state };
    },
    hints: ["`gfe drain` lets running answers end; the task's own stop does not."],
  };
}

/** What the tool printed. Throws ServiceError with its words where it failed. */
async function done(host: ServiceHost, absent: string, command: string, ...args: string[]): Promise<string> {
  const result: RunResult = await host.run(command, args, { timeoutMs: TOOL_MS });
  if (result.type === "ran" && result.exitCode === 0) return result.stdout;
  if (result.type === "absent") throw new ServiceError(absent);
  if (result.type === "timeout") throw new ServiceError(`${command} gave no answer in ${TOOL_MS / 1000} s`);
  if (command === "systemctl" && args[1] === "show-environment") throw new ServiceError(absent);
  throw new ServiceError(
    `\`${command} ${args.join(" ")}\` failed (${result.exitCode}): run it by hand to see why`,
  );
}

function homeOf({ env }: ServiceHost): string {
  if (env.HOME) return env.HOME;
  throw new ServiceError("HOME is not set: whose service would it be?");
}

/** A line break would begin another setting. */
function refuseLines(word: string): void {
  if (/[\r\n\0]/.test(word)) throw new ServiceError("a service's options are of one line each");
}

function plain(token: string): string {
  if (!/^[A-Za-z0-9_.~-]{1,512}$/.test(token)) throw new ServiceError("that is no agent token");
  return token;
}
