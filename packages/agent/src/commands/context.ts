/** Which hub a command is about, and with which token. */
import { askAgent } from "../control/client.ts";
import type { AgentStatus } from "../control/status.ts";
import type { Host } from "../host.ts";
import { parseHubAddress } from "../hub-address.ts";
import { createHubRecords } from "../hub-records.ts";

export interface HubContext {
  host: Host;
  /** The hub's address as it was given; null where none is known. */
  hub: string | null;
  token: string | null;
  /** Of the agent that runs here; null where none does. */
  status: AgentStatus | null;
}

/** The hub that was named, else the running agent's, else the only one that is known. Never rejects. */
export async function hubContext(host: Host, options: { hub?: string; token?: string }): Promise<HubContext> {
  const asked = await askAgent(host);
  const status = asked.type === "status" ? asked.status : null;
  const records = createHubRecords(host);
  const known = await records.origins().catch((): string[] => []);
  const hub = options.hub ?? status?.hub ?? (known.length === 1 ? known[0]! : null);
  return { host, hub, status, token: options.token ?? (await keptToken(hub)) };

  async function keptToken(of: string | null): Promise<string | null> {
    try {
      return (of === null ? null : (await records.get(parseHubAddress(of).origin)).agentToken) ?? null;
    } catch {
      return null; // the address or the file is told of where it is used
    }
  }
}
