/** Which agent token an agent joins with. */
import { type DeviceCode, requestDeviceGrant } from "../device.ts";
import type { Host, Terminal } from "../host.ts";
import { parseHubAddress } from "../hub-address.ts";
import { createHubRecords } from "../hub-records.ts";
import { qrLines } from "../panel/qr.ts";
import { printable } from "../panel/text.ts";
import { probeGpus } from "../probe.ts";
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
  const gpus = (await probeGpus(host)).map(({ name }) => name);
  const grant = await requestDeviceGrant({
    ...{ host, gpus },
    hubUrl: options.hub,
    onCode: (code) => {
      if (options.json) out.line(JSON.stringify({ type: "code", ...code }));
      else for (const line of codeLines(code, host.terminal)) out.line(line);
    },
  });
  switch (grant.type) {
    case "approved":
      await records.put(origin, { agentToken: grant.agentToken });
      return { type: "token", token: grant.agentToken };
    case "denied":
      return { type: "failed", message: "the request was denied in the browser" };
    case "expired":
      return { type: "failed", message: "nobody approved in time: run the command again" };
    case "unavailable":
      return { type: "failed", message: `${grant.message}. Is the hub at ${options.hub} running?` };
  }
}

function codeLines(
  { userCode, verificationUriComplete, expiresInS }: DeviceCode,
  terminal: Terminal | null,
): string[] {
  const uri = printable(verificationUriComplete);
  const qr = terminal && qrLines(uri, { columns: terminal.columns - 2, colour: terminal.colour });
  return [
    "",
    ...(qr ? [...qr.map((line) => `  ${line}`), ""] : []),
    `  Open    ${uri}`,
    `  Code    ${printable(userCode)}`,
    "",
    `Waiting for your approval (${Math.round(expiresInS / 60)} minutes). On a machine without a browser near: --token, or GFE_AGENT_TOKEN.`,
  ];
}
