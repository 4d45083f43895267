/** The device grant (RFC 8628): an agent without a browser gets its token by a person's approval in one. */
import { z } from "zod";
import { readJson } from "./body.ts";
import { delay, type Host, limitedSignal } from "./host.ts";
import { parseHubAddress } from "./hub-address.ts";
import { DEVICE_LIMITS } from "./limits.ts";

export const DEVICE_CLIENT_ID = "gfe-agent";

const codeSchema = z.object({
  device_code: z.string().min(1).max(512),
  user_code: z.string().min(1).max(64),
  verification_uri: z.string().max(2048),
  verification_uri_complete: z.string().max(2048).optional(),
  interval: z.number().int().min(1).max(60).default(DEVICE_LIMITS.intervalS),
  expires_in: z.number().int().min(1).max(86_400),
});
const tokenSchema = z.object({ agent_token: z.string().min(1).max(512) });
const errorSchema = z.object({ error: z.string() });

/** What to show the person who runs the agent. */
export interface DeviceCode {
  userCode: string;
  verificationUri: string;
  /** The same with the code in it, for a QR code or a click. */
  verificationUriComplete: string;
  expiresInS: number;
}

export type DeviceGrantResult =
  | { type: "approved"; agentToken: string }
  | { type: "denied" }
  | { type: "expired" }
  | { type: "unavailable"; message: string };

export interface DeviceGrantOptions {
  host: Pick<Host, "http" | "after" | "nowMs" | "hostName">;
  hubUrl: string;
  /** What the machine computes on, for whoever approves it. */
  gpus?: readonly string[];
  /** Names the token in the owner's list; the host name unless given. */
  label?: string;
  allowInsecure?: boolean;
  onCode(code: DeviceCode): void;
  signal?: AbortSignal;
}

/** Asks for a code, shows it, waits for the decision. Rejects only when `signal` is aborted. */
export async function requestDeviceGrant(options: DeviceGrantOptions): Promise<DeviceGrantResult> {
  const { host, signal } = options;
  const { origin } = parseHubAddress(options.hubUrl, options.allowInsecure);
  const label = options.label ?? host.hostName;
  const asked = await post(host, `${origin}/api/auth/device/code`, signal, {
    client_id: DEVICE_CLIENT_ID,
    scope: ["agent", `host=${shown(host.hostName) || "unnamed"}`, ...gpuOf(options.gpus)].join(" "),
  });
  const code = codeSchema.safeParse(asked?.body);
  if (asked?.status !== 200 || !code.success)
    return { type: "unavailable", message: `${origin} gave no code${asked ? ` (${asked.status})` : ""}` };
  const grant = code.data;
  options.onCode({
    userCode: grant.user_code,
    verificationUri: grant.verification_uri,
    verificationUriComplete: grant.verification_uri_complete ?? grant.verification_uri,
    expiresInS: grant.expires_in,
  });
  const expiresAtMs = host.nowMs() + grant.expires_in * 1000;
  let intervalS = grant.interval;
  while (host.nowMs() < expiresAtMs) {
    await delay(host, intervalS * 1000, signal);
    const answer = await post(host, `${origin}/api/v1/device/token`, signal, {
      device_code: grant.device_code,
      client_id: DEVICE_CLIENT_ID,
      label: label.slice(0, 80),
    });
    const token = tokenSchema.safeParse(answer?.body);
    if (answer?.status === 200 && token.success)
      return { type: "approved", agentToken: token.data.agent_token };
    const refusal = errorSchema.safeParse(answer?.body).data?.error;
    if (refusal === "access_denied") return { type: "denied" };
    if (refusal === "expired_token") return { type: "expired" };
    if (refusal === "invalid_grant" || refusal === "invalid_client")
      return { type: "unavailable", message: `${origin} does not know this code` };
    // A connection that failed or a hub under load is a reason to ask less often, not to give up (RFC 8628, 3.5).
    if (refusal !== "authorization_pending") intervalS += DEVICE_LIMITS.slowDownS;
  }
  return { type: "expired" };
}

/** Null where no answer came. */
async function post(
  host: Pick<Host, "http" | "after">,
  url: string,
  parent: AbortSignal | undefined,
  body: object,
): Promise<{ status: number; body: unknown } | null> {
  const { signal, release } = limitedSignal(host, DEVICE_LIMITS.requestMs, parent);
  try {
    const response = await host.http({ url, method: "POST", body: JSON.stringify(body), signal });
    return { status: response.status, body: await readJson(response, DEVICE_LIMITS.bodyBytes) };
  } catch {
    parent?.throwIfAborted();
    return null;
  } finally {
    release();
  }
}

const SHOWN_MAX = 80;
/** One word of a scope; the hub takes it apart. */
const shown = (text: string): string =>
  encodeURIComponent([...text.toWellFormed()].slice(0, SHOWN_MAX).join(""));

function gpuOf(gpus: readonly string[] = []): string[] {
  const [first, ...others] = gpus;
  if (first === undefined) return [];
  return [`gpu=${shown(others.length > 0 ? `${first} and ${others.length} more` : first)}`];
}
