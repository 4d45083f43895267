/** Which agent token an agent joins with. */
import type { Host } from "../host.ts";
import { parseHubAddress } from "../hub-address.ts";
import { createHubRecords } from "../hub-records.ts";
import type { Output } from "./command.ts";

export type GotToken = { type: "token"; token: string } | { type: "failed"; message: string };

/** Given, kept from an earlier time, or by approval in a browser; kept for the next time then. */
export async function agentToken(
  host: Host,
  options: { hub: string; token?: string; json?: boolean },
  out: Output,
): Promise<GotToken> {
  if (options.token) return { type: "token", token: options.token };
  const records = createHubRecords(host);
  const { origin } = parseHubAddress(options.hub);
  const { agentToken: kept } = await records.get(origin);
  if (kept) return { type: "token", token: kept };
  const { tokenByApproval } = await import("./approval.ts"); // once in a node's life
  const got = await tokenByApproval(host, options, out);
  if (got.type === "token") await records.put(origin, { agentToken: got.token });
  return got;
}
