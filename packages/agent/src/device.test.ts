import { afterEach, describe, expect, it } from "vitest";
import { type DeviceCode, requestDeviceGrant } from "./device.ts";
import { createNodeHost } from "./node-host.ts";
import { type Answer, createEngineServer, type EngineServer } from "./testing/engine-server.ts";

let server: EngineServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

/** A host whose waiting takes no time but is noted. */
function hurriedHost() {
  const waits: number[] = [];
  let aheadMs = 0;
  const real = createNodeHost();
  const host = {
    ...real,
    hostName: "attic",
    nowMs: () => real.nowMs() + aheadMs,
    after(ms: number, callback: () => void) {
      if (ms === 10_000) return real.after(ms, callback); // a request's own limit
      waits.push(ms);
      aheadMs += ms;
      return real.after(0, callback);
    },
  };
  return { host, waits };
}

const code = {
  device_code: "dc",
  user_code: "WDJB-MJHT",
  verification_uri: "http://hub/device",
  verification_uri_complete: "http://hub/device?user_code=WDJB-MJHT",
  interval: 2,
  expires_in: 60,
};

async function grant(answers: (object | number)[]) {
  const left = [...answers];
  const token: Answer = (_request, response) => {
    const answer = left.length > 1 ? left.shift()! : left[0]!;
    if (typeof answer === "number") return void response.writeHead(answer).end("<html>");
    response.writeHead("agent_token" in answer ? 200 : 400).end(JSON.stringify(answer));
  };
  server = await createEngineServer({ "/api/auth/device/code": code, "/api/v1/device/token": token });
  const { host, waits } = hurriedHost();
  const codes: DeviceCode[] = [];
  const result = await requestDeviceGrant({
    host,
    hubUrl: server.url,
    label: "my attic",
    onCode: (shown) => void codes.push(shown),
  });
  return { result, waits, codes, requests: server.requests };
}

const pending = { error: "authorization_pending" };

describe("the device grant", () => {
  it("shows a code, waits as long as it is told, and gets a token", async () => {
    const { result, waits, codes, requests } = await grant([pending, pending, { agent_token: "gfe_at_1" }]);
    expect(result).toEqual({ type: "approved", agentToken: "gfe_at_1" });
    expect(codes).toEqual([
      {
        userCode: "WDJB-MJHT",
        verificationUri: "http://hub/device",
        verificationUriComplete: "http://hub/device?user_code=WDJB-MJHT",
        expiresInS: 60,
      },
    ]);
    expect(waits).toEqual([2000, 2000, 2000]);
    expect(requests[0]!.body).toEqual({ client_id: "gfe-agent", scope: "agent host=attic" });
    expect(requests[1]!.body).toEqual({ device_code: "dc", client_id: "gfe-agent", label: "my attic" });
  });

  it("asks less often when it is told to, or when the hub is in trouble", async () => {
    const { result, waits } = await grant([{ error: "slow_down" }, 502, pending, { agent_token: "t" }]);
    expect(result.type).toBe("approved");
    expect(waits).toEqual([2000, 7000, 12000, 12000]);
  });

  it.each([
    [{ error: "access_denied" }, "denied"],
    [{ error: "expired_token" }, "expired"],
    [{ error: "invalid_grant" }, "unavailable"],
  ])("ends with %o as %s", async (answer, type) => {
    expect((await grant([answer])).result.type).toBe(type);
  });

  it("ends when its time is up, whatever the hub says", async () => {
    expect((await grant([pending])).result).toEqual({ type: "expired" });
  });

  it("tells where no hub gives a code", async () => {
    server = await createEngineServer({});
    const { host } = hurriedHost();
    const result = await requestDeviceGrant({ host, hubUrl: server.url, onCode: () => {} });
    expect(result.type).toBe("unavailable");
  });

  it("can be called off", async () => {
    server = await createEngineServer({ "/api/auth/device/code": code, "/api/v1/device/token": pending });
    const controller = new AbortController();
    const waiting = requestDeviceGrant({
      host: createNodeHost(),
      hubUrl: server.url,
      onCode: () => controller.abort(new Error("enough")),
      signal: controller.signal,
    });
    await expect(waiting).rejects.toThrow("enough");
  });
});
