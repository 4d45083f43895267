/** What the agent remembers of each hub: its key, pinned at joining, and the agent token for it. */
import { z } from "zod";
import { AgentError } from "./errors.ts";
import type { Host } from "./host.ts";
import { PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE, readPrivate } from "./identity.ts";

export const HUBS_FILE = "hubs.json";

const recordSchema = z.object({ key: z.string().optional(), agent_token: z.string().optional() });
const fileSchema = z.record(z.string(), recordSchema);

export interface HubRecord {
  /** The hub's public key; undefined until the agent has joined once. */
  key?: string | undefined;
  agentToken?: string | undefined;
}

export interface HubRecords {
  /** The hubs that are known, by their origins. */
  origins(): Promise<string[]>;
  /** Empty for a hub that was never joined. */
  get(origin: string): Promise<HubRecord>;
  /** Keeps what is given, and what it knew besides. */
  put(origin: string, patch: HubRecord): Promise<void>;
  /** Forgets a token that the hub refused, if it is still the one that is kept. */
  forgetToken(origin: string, agentToken: string): Promise<void>;
  /** Forgets the key and the token of a hub: the way to accept a hub's new key. */
  forget(origin: string): Promise<void>;
}

type RecordsHost = Pick<Host, "files" | "directories" | "log">;

/** Writers of one file within this process, one after another. */
const writing = new Map<string, Promise<void>>();

export function createHubRecords({ files, directories, log }: RecordsHost): HubRecords {
  const path = files.join(directories.config, HUBS_FILE);

  async function load(): Promise<z.infer<typeof fileSchema>> {
    const text = await readPrivate(files, path, log);
    if (text === null) return {};
    try {
      return fileSchema.parse(JSON.parse(text));
    } catch (cause) {
      // Starting anew here would silently trust whatever hub answers next.
      throw new AgentError("identity_unreadable", `${path} is damaged: restore it, or move it away.`, {
        cause,
      });
    }
  }

  function change(edit: (all: z.infer<typeof fileSchema>) => void): Promise<void> {
    const turn = (writing.get(path) ?? Promise.resolve())
      .catch(() => {})
      .then(async () => {
        const all = await load();
        edit(all);
        await files.makeDirectory(directories.config, PRIVATE_DIRECTORY_MODE);
        await files.write(path, `${JSON.stringify(all, null, 2)}\n`, { mode: PRIVATE_FILE_MODE });
      });
    writing.set(path, turn);
    return turn.finally(() => {
      if (writing.get(path) === turn) writing.delete(path);
    });
  }

  return {
    origins: async () => Object.keys(await load()),
    async get(origin) {
      const record = (await load())[origin];
      return { key: record?.key, agentToken: record?.agent_token };
    },
    put: (origin, patch) =>
      change((all) => {
        const before = all[origin];
        all[origin] = {
          ...before,
          ...(patch.key === undefined ? {} : { key: patch.key }),
          ...(patch.agentToken === undefined ? {} : { agent_token: patch.agentToken }),
        };
      }),
    async forgetToken(origin, agentToken) {
      if ((await load())[origin]?.agent_token !== agentToken) return;
      await change((all) => {
        const { agent_token: kept, ...rest } = all[origin] ?? {};
        if (kept === agentToken) all[origin] = rest;
      });
    },
    forget: (origin) =>
      change((all) => {
        delete all[origin];
      }),
  };
}
