/**
 * The device grant (RFC 8628), as agents, the CLI and the approval page use it:
 *
 *   agent    POST /api/auth/device/code   {client_id: "gfe-agent", scope: "agent host=<name> gpu=<name>"}
 *              → {device_code, user_code, verification_uri, verification_uri_complete, interval, expires_in}
 *   browser  GET  /api/v1/device/:userCode        → what asks: host name, GPU, address; claims it for the signed-in user
 *   browser  POST /api/v1/device/:userCode        {approve: boolean} → 204
 *   agent    POST /api/v1/device/token    {device_code, client_id, label}
 *              → 200 {agent_token} | 400 {error: authorization_pending | slow_down | expired_token | access_denied}
 *
 * better-auth keeps the codes and the pace of polling, and hands out a session. An agent must not hold a session: the
 * exchange turns it into an agent token of the same user and ends it at once.
 */
import { type DeviceRequest, GfeError } from "@gfe/protocol";
import { isAPIError } from "better-auth/api";
import type pg from "pg";
import type { Auth } from "./auth.ts";
import type { SecretStore } from "./secrets.ts";

export type DeviceExchange = { type: "approved"; agentToken: string } | { type: "refused"; error: string };

export interface DeviceGrants {
  /** What is asking, for the signed-in user whose headers these are; the first who looks may approve. */
  view(userCode: string, headers: Headers): Promise<DeviceRequest>;
  decide(userCode: string, approve: boolean, headers: Headers): Promise<void>;
  exchange(request: { deviceCode: string; clientId: string; label: string }): Promise<DeviceExchange>;
}

export function createDeviceGrants(auth: Auth, agentTokens: SecretStore, pool: pg.Pool): DeviceGrants {
  async function call(
    path: string,
    init: RequestInit,
  ): Promise<{ status: number; body: Record<string, unknown> }> {
    const response = await auth.handler(new Request(new URL(`/api/auth${path}`, auth.options.baseURL), init));
    return {
      status: response.status,
      body: (await response.json().catch(() => ({}))) as Record<string, unknown>,
    };
  }

  return {
    async view(userCode, headers) {
      const { status, body } = await call(`/device?user_code=${encodeURIComponent(userCode)}`, { headers });
      if (status === 429) throw new GfeError("rate_limited", undefined, { retryAfterS: 60 });
      if (status !== 200)
        throw new GfeError("not_found", "There is no such code, or its time is up", { param: "userCode" });
      if (typeof body.client_id !== "string")
        throw new GfeError("forbidden", "Another account is looking at this code");
      const { rows } = await pool.query<{ expiresAt: Date }>(
        `SELECT "expiresAt" FROM "deviceCode" WHERE "userCode" = $1`,
        [normalised(userCode)],
      );
      return {
        user_code: userCode,
        client: body.client_id,
        host_name: said(body.scope, "host") ?? "unknown",
        gpu: said(body.scope, "gpu"),
        address: said(body.scope, ADDRESS),
        state: body.status as DeviceRequest["state"],
        expires_at: (rows[0]?.expiresAt ?? new Date(0)).toISOString(),
      };
    },

    async decide(userCode, approve, headers) {
      const sent = new Headers(headers);
      sent.set("content-type", "application/json");
      sent.delete("content-length");
      const { status, body } = await call(`/device/${approve ? "approve" : "deny"}`, {
        method: "POST",
        headers: sent,
        body: JSON.stringify({ userCode }),
      });
      if (status !== 200)
        throw new GfeError(
          status === 401 ? "not_signed_in" : "conflict",
          String(body.error_description ?? "This code cannot be decided"),
        );
    },

    async exchange({ deviceCode, clientId, label }) {
      const granted = await redeem(deviceCode, clientId);
      if ("error" in granted) return { type: "refused", error: granted.error };
      const { rows } = await pool.query<{ userId: string }>(
        `DELETE FROM "session" WHERE "token" = $1 RETURNING "userId"`,
        [granted.session],
      );
      if (!rows[0]) throw new Error("the device grant made no session");
      const { secret } = await agentTokens.create(rows[0].userId, { label });
      return { type: "approved", agentToken: secret };
    },
  };

  /** Not through `call`: the code's own pace limits the polling, not how many agents share an address. */
  async function redeem(
    device_code: string,
    client_id: string,
  ): Promise<{ session: string } | { error: string }> {
    try {
      const { access_token } = await auth.api.deviceToken({
        body: { grant_type: "urn:ietf:params:oauth:grant-type:device_code", device_code, client_id },
      });
      return { session: access_token };
    } catch (error) {
      if (!isAPIError(error) || error.statusCode >= 500) throw error;
      return { error: String(error.body?.error ?? "invalid_grant") };
    }
  }
}

const normalised = (userCode: string): string => userCode.replace(/[^a-zA-Z0-9]/g, "").toUpperCase();

/** The hub's own word in a scope: where the request for a code came from. */
const ADDRESS = "from";
const CODE_PATH = "/api/auth/device/code";
const SAID_MAX = 80;

/**
 * A request for a code with the address of who asks in its scope, whatever it claims there; others as they are. It is made anew
 * of what is understood here, so that nothing in it can be read in another way behind.
 */
export async function withAddress(request: Request, addressHeader: string): Promise<Request> {
  if (request.method !== "POST" || new URL(request.url).pathname !== CODE_PATH) return request;
  const address = request.headers.get(addressHeader);
  const headers = new Headers(request.headers);
  headers.set("content-type", "application/json");
  headers.delete("content-length");
  const body = JSON.stringify(codeRequest(await request.text(), address));
  return new Request(request.url, { method: "POST", headers, body });
}

function codeRequest(text: string, address: string | null): { client_id?: string; scope?: string } {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return {}; // refused behind, as one without a client
  }
  if (typeof body !== "object" || body === null) return {};
  const { client_id, scope } = body as { client_id?: unknown; scope?: unknown };
  const claimed = typeof scope === "string" ? scope.split(/\s+/) : [];
  const kept = claimed.filter((word) => word !== "" && !word.startsWith(`${ADDRESS}=`));
  const seen = address === null ? [] : [`${ADDRESS}=${encodeURIComponent(address)}`];
  return {
    ...(typeof client_id === "string" ? { client_id } : {}),
    scope: [...kept, ...seen].join(" "),
  };
}

/** From `agent host=<name> gpu=<name>`: shown to the user as it is, so without what could mislead an eye or a terminal. */
function said(scope: unknown, name: string): string | null {
  const words = typeof scope === "string" ? scope.split(/\s+/) : [];
  const value = words.find((word) => word.startsWith(`${name}=`))?.slice(name.length + 1);
  if (!value) return null;
  let text = value;
  try {
    text = decodeURIComponent(value);
  } catch {} // a per cent sign that is none of an encoding
  return text.replace(/[\p{Cc}\p{Cf}]/gu, "").slice(0, SAID_MAX) || null;
}
