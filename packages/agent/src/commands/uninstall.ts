import { askAgent } from "../control/client.ts";
import { SETTINGS_FILE } from "../control/settings.ts";
import { BENCHMARKS_FILE } from "../engines/benchmark.ts";
import { CACHE_FILE } from "../engines/digests.ts";
import { STATE_FILE } from "../guest/guest.ts";
import { delay, type Host } from "../host.ts";
import { askHub, problemOf } from "../hub-api.ts";
import { createHubRecords, HUBS_FILE } from "../hub-records.ts";
import { KEY_FILE } from "../identity.ts";
import { modelsDirectory, pulledFiles } from "../models/library.ts";
import { printable } from "../panel/text.ts";
import { installedService } from "../service/service.ts";
import { HubRefused, nodeIdOf, nodeKeyOf } from "../standing.ts";
import { UPDATES_FOLDER } from "../update/download.ts";
import { UPDATE_FILE } from "../update/record.ts";
import { EXIT, type Output } from "./command.ts";
import { agentEnded } from "./drain.ts";

interface UninstallOptions {
  yes?: boolean;
  models?: boolean;
  json?: boolean;
}

/** All that an agent makes, by directory: nothing else is touched. */
const OWN = {
  config: [KEY_FILE, HUBS_FILE, SETTINGS_FILE],
  state: [
    ...[
      STATE_FILE,
      "events.jsonl",
      "events.1.jsonl",
      "agent.sock",
      "agent.sock.lock",
      CACHE_FILE,
      BENCHMARKS_FILE,
    ],
    ...[UPDATE_FILE, UPDATES_FOLDER],
  ],
} as const;
/** A hub takes a moment to see that a node has left. */
const FORGET_TRIES = 10;
const FORGET_RETRY_MS = 500;

interface Plan {
  running: boolean;
  /** Those whose token is kept: it is this machine's alone. */
  hubs: string[];
  /** Those that it joined with a token that was given: other machines may have it, too. */
  given: string[];
  paths: string[];
  /** In our directories, and not ours. */
  left: string[];
  /** The folder of pulled models, where there are any that stay. */
  models: string | null;
}

/** `gfe uninstall`: lists, asks, revokes, removes. What fails on the way is told, and the rest goes on. */
export async function uninstallCommand(host: Host, options: UninstallOptions, out: Output): Promise<number> {
  const plan = await planOf(host, options.models ?? false);
  if (!options.json) for (const line of planLines(plan)) out.line(printable(line));
  const nothing = !plan.running && plan.paths.length === 0;
  if (nothing || !(options.yes || (await agreed(host, options, out)))) {
    if (options.json) out.line(JSON.stringify({ removed: false, ...plan }));
    return nothing || options.json ? EXIT.fine : EXIT.failed;
  }
  // First: it would start the agent again.
  const service = await installedService(host);
  const unserved = await service?.uninstall().then(
    () => [],
    (error: Error) => [`the service stays: ${error.message}`],
  );
  const problems = [
    ...(unserved ?? []),
    ...(await stop(host)),
    ...(await revoke(host, plan.hubs)),
    ...(await remove(host, plan)),
  ];
  if (options.json) out.line(JSON.stringify({ removed: problems.length === 0, problems, ...plan }));
  else {
    for (const problem of problems) out.error(printable(`gfe: ${problem}`));
    out.line(
      problems.length === 0
        ? "All of it is gone. Your credits are in your account as before."
        : "The rest is gone.",
    );
  }
  return problems.length === 0 ? EXIT.fine : EXIT.failed;
}

async function planOf(host: Host, models: boolean): Promise<Plan> {
  const { files, directories } = host;
  const ours = (name: string, kind: keyof typeof OWN) => (OWN[kind] as readonly string[]).includes(name);
  const kinds: (keyof typeof OWN)[] = ["config", "state"];
  const paths = new Set<string>();
  const others = new Set<string>();
  for (const kind of kinds)
    for (const name of await files.list(directories[kind])) {
      const isOurs =
        directories.config === directories.state ? kinds.some((one) => ours(name, one)) : ours(name, kind);
      (isOurs ? paths : others).add(files.join(directories[kind], name));
    }
  const pulled = await pulledFiles(host).catch((): string[] => []);
  if (models) for (const path of pulled) paths.add(path);
  for (const path of (await installedService(host))?.paths ?? []) {
    if (await files.facts(path)) paths.add(path);
    others.delete(path);
  }
  const records = createHubRecords(host);
  const origins = await records.origins().catch((): string[] => []);
  const kept = await Promise.all(
    origins.map(async (origin) => (await records.get(origin)).agentToken !== undefined),
  );
  const asked = await askAgent(host);
  return {
    running: asked.type === "status",
    hubs: origins.filter((_origin, index) => kept[index]),
    given: origins.filter((_origin, index) => !kept[index]),
    ...{ paths: [...paths], left: [...others] },
    models: models || pulled.length === 0 ? null : modelsDirectory(host),
  };
}

function planLines({ running, hubs, given, paths, left, models }: Plan): string[] {
  if (!running && paths.length === 0) return ["There is nothing to remove: no agent was ever here."];
  return [
    "This will be done:",
    ...(running ? ["  end     the agent that runs here, at once"] : []),
    ...hubs.map((hub) => `  revoke  this node and its agent token at ${hub}`),
    ...given.map(
      (hub) =>
        `  keep    the agent token that was given for ${hub}: revoke it in the dashboard if no other machine has it`,
    ),
    ...paths.map((path) => `  remove  ${path}`),
    ...left.map((path) => `  keep    ${path}`),
    ...(models === null
      ? []
      : [`  keep    the models in ${models} (--models removes those that were pulled)`]),
    "Your credits stay in your account.",
  ];
}

/** One key in a terminal; where nobody can be asked, no. */
async function agreed({ terminal }: Host, { json }: UninstallOptions, out: Output): Promise<boolean> {
  if (!terminal || json) {
    if (!json) out.error("gfe: nothing was done: run it again with --yes");
    return false;
  }
  out.line("\nType y to do it, any other key to leave all as it is.");
  const key = await new Promise<string>((resolve) => {
    const end = terminal.onKey((typed) => {
      end();
      resolve(typed);
    });
  });
  if (key === "y" || key === "Y") return true;
  out.line("Nothing was done.");
  return false;
}

async function stop(host: Host): Promise<string[]> {
  const asked = await askAgent(host, "/drain", { now: true });
  if (asked.type !== "status") return [];
  return (await agentEnded(host, asked.status))
    ? []
    : [`the agent (process ${asked.status.process_id}) did not end: end it by hand`];
}

async function revoke(host: Host, hubs: readonly string[]): Promise<string[]> {
  const records = createHubRecords(host);
  const nodeKey = await nodeKeyOf(host);
  const problems = await Promise.all(
    hubs.map(async (origin) => {
      const { agentToken: token } = await records.get(origin);
      if (token === undefined) return [];
      try {
        await leaveHub({ host, origin, token }, nodeKey);
        return [];
      } catch (error) {
        return [
          `${origin} did not revoke this node: ${(error as Error).message}. Revoke its agent token in the dashboard`,
        ];
      }
    }),
  );
  return problems.flat();
}

/** The node goes from its owner's list, then the token that said so is revoked. Throws in the hub's words. */
async function leaveHub(
  call: Parameters<typeof askHub>[0] & { host: Host },
  nodeKey: string | null,
): Promise<void> {
  let nodeId: string | null;
  try {
    nodeId = await nodeIdOf(call, nodeKey);
  } catch (error) {
    if (error instanceof HubRefused && error.status === 401) return; // revoked already
    throw error;
  }
  for (let left = nodeId === null ? 0 : FORGET_TRIES; left > 0; left--) {
    const forgotten = await askHub(call, `/api/v1/nodes/${encodeURIComponent(nodeId!)}`, {
      method: "DELETE",
    });
    if (forgotten.status === 204 || forgotten.status === 404) break;
    if (forgotten.status !== 409 || left === 1) throw new Error(problemOf(forgotten));
    await delay(call.host, FORGET_RETRY_MS);
  }
  const revoked = await askHub(call, "/api/v1/agent-tokens/self", { method: "DELETE" });
  if (revoked.status !== 204) throw new Error(problemOf(revoked));
}

async function remove({ files, directories }: Host, { paths }: Plan): Promise<string[]> {
  const problems: string[] = [];
  const tried = async (path: string) => {
    await files.remove(path).catch((error: Error) => problems.push(`${path} stays: ${error.message}`));
  };
  for (const path of paths) await tried(path);
  for (const directory of new Set([directories.config, directories.state]))
    if ((await files.list(directory)).length === 0) await tried(directory);
  return problems;
}
