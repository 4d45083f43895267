import type { ServerResponse } from "node:http";
import { afterEach, describe, expect, it } from "vitest";
import { createClient } from "./client.ts";
import { answerJson, type ScriptedServer, startScriptedServer } from "./testing/scripted-server.ts";

const open: ScriptedServer[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

async function serve(answer: (response: ServerResponse, nth: number) => void) {
  const server = await startScriptedServer(answer);
  open.push(server);
  return { server, client: createClient({ baseUrl: `${server.url}/` }) };
}

describe("the client", () => {
  it("turns problem+json into an SdkError with code, status and field", async () => {
    const { client } = await serve((response) =>
      answerJson(response, 400, {
        type: "urn:gfe:error:invalid_request",
        title: "The request is not valid",
        status: 400,
        detail: "label: too long",
        code: "invalid_request",
        param: "label",
      }),
    );
    await expect(client.createKey({ label: "x" })).rejects.toMatchObject({
      name: "SdkError",
      code: "invalid_request",
      status: 400,
      param: "label",
      message: "label: too long",
    });
  });

  it("tells a throttled sign-in how long to wait, in better-auth's dialect", async () => {
    const { client } = await serve((response) =>
      answerJson(
        response,
        429,
        { message: "Too many requests. Please try again later." },
        { "retry-after": "9" },
      ),
    );
    await expect(client.signIn({ email: "a@b.c", password: "wrong" })).rejects.toMatchObject({
      code: "http_429",
      status: 429,
      retryAfterS: 9,
      message: /Too many requests/,
    });
  });

  it("tells of no wait that makes no sense", async () => {
    const { client } = await serve((response) =>
      answerJson(response, 429, { message: "Slow down" }, { "retry-after": "179539390531151" }),
    );
    await expect(client.me()).rejects.toMatchObject({ status: 429, retryAfterS: undefined });
  });

  it("spells better-auth's codes like ours", async () => {
    const { client } = await serve((response) =>
      answerJson(response, 401, { code: "INVALID_EMAIL_OR_PASSWORD", message: "Invalid email or password" }),
    );
    const signIn = client.signIn({ email: "a@b.c", password: "wrong" });
    await expect(signIn).rejects.toMatchObject({ code: "invalid_email_or_password", status: 401 });
  });

  it("refuses an answer that is not what the schema says, and one that is no JSON", async () => {
    const { client } = await serve((response, nth) =>
      nth === 0 ? answerJson(response, 200, { user: {} }) : void response.end("<html>proxy</html>"),
    );
    await expect(client.me()).rejects.toMatchObject({ code: "unexpected_answer" });
    await expect(client.me()).rejects.toMatchObject({ code: "unexpected_answer" });
  });

  it("says so where the hub cannot be reached", async () => {
    const { client, server } = await serve(() => {});
    await server.close();
    await expect(client.config()).rejects.toMatchObject({ code: "unreachable", status: 0 });
  });

  it("writes ids and queries into addresses safely, and sends no undefined", async () => {
    const { client, server } = await serve((response) => answerJson(response, 200, { jobs: [], next: null }));
    await client.revokeKey("../me?x=1");
    await client.jobs({ state: "failed", limit: 5 });
    await client.jobs();
    expect(server.requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
      "DELETE /api/v1/keys/..%2Fme%3Fx%3D1",
      "GET /api/v1/jobs?state=failed&limit=5",
      "GET /api/v1/jobs",
    ]);
  });

  it("answers null for a session where nobody is signed in", async () => {
    const { client } = await serve((response) => answerJson(response, 200, null));
    expect(await client.session()).toBeNull();
  });
});
