/** The real dance of redirects, with servers that do what Google, Microsoft and GitHub do. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { Events, type MutableToken, OAuth2Server } from "oauth2-mock-server";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { cookieOf, postJson, startTestHub, type TestHub } from "../testing/test-hub.ts";

const TENANT = "0a1b2c3d-0000-4000-8000-000000000001";
let claims: Record<string, unknown> = {};
let github: { server: Server; url: string; id: number; emails: unknown[] };
let oidc: OAuth2Server;
let entra: OAuth2Server;
let hub: TestHub;

beforeAll(async () => {
  oidc = await identityServer({});
  entra = await identityServer({
    authorize: "/common/oauth2/v2.0/authorize",
    token: "/common/oauth2/v2.0/token",
    jwks: "/common/discovery/v2.0/keys",
  });
  github = await githubServer();
  hub = await startTestHub({
    GFE_GOOGLE_CLIENT_ID: "google-id",
    GFE_GOOGLE_CLIENT_SECRET: "google-secret",
    GFE_GOOGLE_URL: oidc.issuer.url!,
    GFE_MICROSOFT_CLIENT_ID: "microsoft-id",
    GFE_MICROSOFT_CLIENT_SECRET: "microsoft-secret",
    GFE_MICROSOFT_URL: entra.issuer.url!,
    GFE_GITHUB_CLIENT_ID: "github-id",
    GFE_GITHUB_CLIENT_SECRET: "github-secret",
    GFE_GITHUB_URL: github.url,
  });
});
afterAll(async () => {
  await hub?.close();
  await oidc?.stop();
  await entra?.stop();
  await new Promise((done) => github?.server.close(done));
});
afterEach(() => {
  vi.restoreAllMocks();
  claims = {};
});

async function identityServer(endpoints: Record<string, string>): Promise<OAuth2Server> {
  const server = new OAuth2Server(undefined, undefined, { endpoints });
  await server.issuer.keys.generate("RS256");
  await server.start(0, "127.0.0.1");
  server.service.on(Events.BeforeTokenSigning, ({ payload }: MutableToken) => Object.assign(payload, claims));
  return server;
}

async function githubServer() {
  const state = { id: 1, emails: [] as unknown[] };
  const server = createServer((request, response) => {
    const url = new URL(request.url!, "http://github");
    const json = (body: unknown, status = 200) => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    };
    if (url.pathname === "/login/oauth/authorize") {
      const back = new URL(url.searchParams.get("redirect_uri")!);
      back.searchParams.set("code", "code-1");
      back.searchParams.set("state", url.searchParams.get("state")!);
      return response.writeHead(302, { location: back.href }).end();
    }
    if (url.pathname === "/login/oauth/access_token")
      return json({ access_token: "gho_x", token_type: "bearer" });
    if (request.headers.authorization !== "Bearer gho_x") return json({ message: "Bad credentials" }, 401);
    if (url.pathname === "/api/v3/user") return json({ id: state.id, login: "octo", name: null });
    if (url.pathname === "/api/v3/user/emails") return json(state.emails);
    return json({}, 404);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return Object.assign(state, { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
}

/** What a browser does from the button to the page that it ends on. */
async function signInWith(provider: string, on: TestHub = hub): Promise<{ ends: URL; cookie: string }> {
  const begun = await postJson(
    `${on.url}/api/auth/sign-in/social`,
    { provider, callbackURL: "/app", errorCallbackURL: "/sign-in" },
    { origin: on.url },
  );
  const { url } = (await begun.json()) as { url: string };
  const there = await fetch(url, { redirect: "manual" });
  const back = await fetch(there.headers.get("location")!, {
    redirect: "manual",
    headers: { cookie: cookieOf(begun) },
  });
  expect(back.status).toBe(302);
  return { ends: new URL(back.headers.get("location")!, on.url), cookie: cookieOf(back) };
}

async function whoIs(cookie: string, on: TestHub = hub) {
  const response = await fetch(`${on.url}/api/v1/me`, { headers: { cookie } });
  return (await response.json()) as {
    user: { id: string; email: string };
    balance: { posted_micro: string };
  };
}

/** What each says of a person with this address. */
function says(provider: string, email: string, verified: boolean): void {
  if (provider === "github") {
    if (JSON.stringify(github.emails).includes(email) === false) github.id++;
    github.emails = [{ email, primary: true, verified }];
  }
  claims = { sub: `sub-${email}`, aud: `${provider}-id`, email, email_verified: verified, name: "Ada" };
  if (provider === "microsoft")
    Object.assign(claims, { oid: `oid-${email}`, tid: TENANT, iss: `${entra.issuer.url}/${TENANT}/v2.0` });
}

const PROVIDERS = ["google", "microsoft", "github"];

describe.each(PROVIDERS)("sign-in with %s", (provider) => {
  const email = `ada@${provider}.test`;

  test("makes an account with its signup credit, and finds it again", async () => {
    says(provider, email, true);
    const first = await signInWith(provider);
    expect(first.ends.pathname).toBe("/app");
    const ada = await whoIs(first.cookie);
    expect(ada).toMatchObject({ user: { email }, balance: { posted_micro: "100000000" } });
    const again = await signInWith(provider);
    expect((await whoIs(again.cookie)).user.id).toBe(ada.user.id);
  });

  test("keeps none of the tokens that it got", async () => {
    const { rows } = await hub.pool.query(
      `SELECT "accessToken", "refreshToken", "idToken" FROM "account" WHERE "providerId" = $1`,
      [provider],
    );
    expect(rows).toEqual([{ accessToken: null, refreshToken: null, idToken: null }]);
  });

  test.each([true, false])(
    "does not open an account with a password that has the same address (verified there: %s)",
    async (verified) => {
      const victim = await hub.signUp(`victim-${provider}-${verified}@example.test`);
      says(provider, victim.email, verified);
      const { ends, cookie } = await signInWith(provider);
      expect(ends.pathname).toBe("/sign-in");
      expect(ends.searchParams.get("error")).toBeTruthy();
      expect((await fetch(`${hub.url}/api/v1/me`, { headers: { cookie } })).status).toBe(401);
    },
  );
});

describe.each(["google", "microsoft"])("an id token of %s", (provider) => {
  test.each([
    ["for another client", { aud: "somebody-else" }],
    ["of another issuer", { iss: "https://evil.example" }],
    ["that has expired", { exp: 1, iat: 1 }],
  ])("%s opens nothing", async (_, wrong) => {
    says(provider, `mallory@${provider}.test`, true);
    Object.assign(claims, wrong);
    const { ends, cookie } = await signInWith(provider);
    expect(ends.pathname).toBe("/sign-in");
    expect((await fetch(`${hub.url}/api/v1/me`, { headers: { cookie } })).status).toBe(401);
  });
});

test("Google itself: the same dance at its own addresses", async () => {
  const real = globalThis.fetch;
  const places: Record<string, string> = {
    "https://accounts.google.com/o/oauth2/v2/auth": `${oidc.issuer.url}/authorize`,
    "https://oauth2.googleapis.com/token": `${oidc.issuer.url}/token`,
    "https://www.googleapis.com/oauth2/v3/certs": `${oidc.issuer.url}/jwks`,
  };
  vi.spyOn(globalThis, "fetch").mockImplementation((input, init) => {
    const [, place, query = ""] = /^([^?]*)(.*)$/s.exec(
      String(input instanceof Request ? input.url : input),
    )!;
    const local = places[place!];
    return local ? real(local + query, init) : real(input, init);
  });
  const google = await startTestHub({ GFE_GOOGLE_CLIENT_ID: "google-id", GFE_GOOGLE_CLIENT_SECRET: "s" });
  try {
    says("google", "grace@gmail.test", true);
    claims.iss = "https://accounts.google.com";
    const { ends, cookie } = await signInWith("google", google);
    expect(ends.pathname).toBe("/app");
    expect((await whoIs(cookie, google)).user.email).toBe("grace@gmail.test");
  } finally {
    await google.close();
  }
});

test("a work account of Microsoft without a mailbox signs in by its name, unverified", async () => {
  says("microsoft", "unused", true);
  Object.assign(claims, { email: undefined, preferred_username: "worker@corp.test", oid: "oid-worker" });
  const { cookie } = await signInWith("microsoft");
  expect((await whoIs(cookie)).user.email).toBe("worker@corp.test");
  const { rows } = await hub.pool.query(
    `SELECT "emailVerified" FROM "user" WHERE "email" = 'worker@corp.test'`,
  );
  expect(rows).toEqual([{ emailVerified: false }]);
});

test("a callback with a state that the hub did not make goes to the error page", async () => {
  const response = await fetch(`${hub.url}/api/auth/callback/google?code=x&state=made-up`, {
    redirect: "manual",
  });
  expect(response.status).toBe(302);
  expect(response.headers.get("location")).toContain("error");
  expect(response.headers.getSetCookie().join()).not.toContain("session_token");
});

test("no redirect leads off the hub", async () => {
  const response = await postJson(
    `${hub.url}/api/auth/sign-in/social`,
    { provider: "google", callbackURL: "https://evil.example/" },
    { origin: hub.url },
  );
  expect(response.status).toBe(403);
});

test("what is not set up is not offered", async () => {
  const bare = await startTestHub();
  try {
    for (const provider of PROVIDERS) {
      const response = await postJson(
        `${bare.url}/api/auth/sign-in/social`,
        { provider, callbackURL: "/app" },
        { origin: bare.url },
      );
      expect(response.status).toBe(404);
    }
    const config = await (await fetch(`${bare.url}/api/v1/config`)).json();
    expect(config.sign_in_with).toEqual([]);
  } finally {
    await bare.close();
  }
});

test("two providers that both vouch for an address lead to one account; one that does not is refused", async () => {
  const email = "linus@both.test";
  says("google", email, true);
  const byGoogle = await whoIs((await signInWith("google")).cookie);
  says("github", email, true);
  const byGithub = await whoIs((await signInWith("github")).cookie);
  expect(byGithub.user.id).toBe(byGoogle.user.id);
  says("microsoft", email, false);
  expect((await signInWith("microsoft")).ends.pathname).toBe("/sign-in");
});
