/** A token by the approval of an account, which is given in a browser anywhere (device grant). */
import { type DeviceCode, requestDeviceGrant } from "../device.ts";
import type { Host, Terminal } from "../host.ts";
import { qrLines } from "../panel/qr.ts";
import { printable } from "../panel/text.ts";
import { probeGpus } from "../probe.ts";
import type { Output } from "./command.ts";
import type { GotToken } from "./token.ts";

/** Shows where to approve, and waits for it, bounded by the hub. */
export async function tokenByApproval(
  host: Host,
  options: { hub: string; json?: boolean },
  out: Output,
): Promise<GotToken> {
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
