/**
 * People: registration, sessions, sign-in with others, the device grant; by better-auth, on our database. Machines'
 * secrets are in secrets.ts. What better-auth needs of tables is in db/migrations/0001-accounts.sql.
 */
import { betterAuth } from "better-auth";
import { bearer, deviceAuthorization, genericOAuth } from "better-auth/plugins";
import type pg from "pg";
import type { Config, OAuthProvider } from "../config.ts";

/** Who asked, as the hub saw it; set by the hub alone, so that no caller can name its own address. */
export const CLIENT_ADDRESS_HEADER = "x-gfe-client-address";
export const DEVICE_CLIENTS: ReadonlySet<string> = new Set(["gfe-agent", "gfe-cli"]);
const LOGIN_WINDOW_S = 10;
const PASSWORD = { min: 8, max: 128 };

export interface AuthOptions {
  pool: pg.Pool;
  baseUrl: string;
  secret: string;
  trustedOrigins: string[];
  loginsMax: number;
  oauth: Config["oauth"];
  /** After a user's row is committed. */
  onUserCreated(userId: string): Promise<void>;
  log(level: string, message: string): void;
}

export type Auth = ReturnType<typeof createAuth>;

export function createAuth(options: AuthOptions) {
  const throttled = { window: LOGIN_WINDOW_S, max: options.loginsMax };
  return betterAuth({
    appName: "GPU For Everyone",
    baseURL: options.baseUrl,
    basePath: "/api/auth",
    secret: options.secret,
    database: options.pool,
    trustedOrigins: options.trustedOrigins,
    telemetry: { enabled: false },
    logger: { level: "warn", log: (level, message) => options.log(level, message) },
    emailAndPassword: { enabled: true, minPasswordLength: PASSWORD.min, maxPasswordLength: PASSWORD.max },
    user: {
      additionalFields: {
        // `input: false`: never from a request, so nobody raises itself.
        role: { type: "string", defaultValue: "consumer", input: false },
        signupGranted: { type: "boolean", defaultValue: false, input: false, returned: false },
      },
    },
    // Accounts of one e-mail address are joined only where the provider vouches for the address.
    account: { accountLinking: { enabled: true, trustedProviders: ["google"] } },
    rateLimit: {
      enabled: true,
      storage: "database",
      window: 60,
      max: 300,
      customRules: {
        "/sign-in/*": throttled,
        "/sign-up/*": throttled,
        "/device/code": { window: 60, max: 30 },
        "/device": { window: 60, max: 30 },
      },
    },
    advanced: { ipAddress: { ipAddressHeaders: [CLIENT_ADDRESS_HEADER] }, cookiePrefix: "gfe" },
    databaseHooks: { user: { create: { after: async ({ id }) => options.onUserCreated(id) } } },
    plugins: [
      bearer(),
      deviceAuthorization({
        expiresIn: "15m",
        interval: "5s",
        userCodeLength: 8,
        verificationUri: "/device",
        validateClient: (clientId) => DEVICE_CLIENTS.has(clientId),
      }),
      genericOAuth({ config: oauthProviders(options.oauth) }),
    ],
  });
}

function oauthProviders(oauth: Config["oauth"]) {
  const providers = [];
  for (const [providerId, { clientId, clientSecret, url }] of Object.entries(oauth) as [
    OAuthProvider,
    NonNullable<Config["oauth"][OAuthProvider]>,
  ][]) {
    providers.push({ providerId, clientId, clientSecret, ...endpoints(providerId, url) });
  }
  return providers;
}

function endpoints(provider: OAuthProvider, url: string | null) {
  switch (provider) {
    case "google":
      return {
        discoveryUrl: `${url ?? "https://accounts.google.com"}/.well-known/openid-configuration`,
        scopes: ["openid", "email", "profile"],
      };
    case "microsoft":
      return {
        discoveryUrl: `${url ?? "https://login.microsoftonline.com/common/v2.0"}/.well-known/openid-configuration`,
        scopes: ["openid", "email", "profile"],
      };
    case "github": {
      const base = url ?? "https://github.com";
      const api = url ? `${url}/api/v3` : "https://api.github.com";
      return {
        authorizationUrl: `${base}/login/oauth/authorize`,
        tokenUrl: `${base}/login/oauth/access_token`,
        scopes: ["read:user", "user:email"],
        getUserInfo: (tokens: { accessToken?: string }) => githubUser(api, tokens.accessToken ?? ""),
      };
    }
  }
}

const GITHUB_TIMEOUT_MS = 10_000;

/** GitHub is no OIDC provider, and keeps the address apart from the user when it is private. */
async function githubUser(api: string, accessToken: string) {
  const get = async (path: string): Promise<unknown> => {
    const response = await fetch(`${api}${path}`, {
      headers: {
        authorization: `Bearer ${accessToken}`,
        accept: "application/vnd.github+json",
        "user-agent": "gpu-for-everyone",
      },
      signal: AbortSignal.timeout(GITHUB_TIMEOUT_MS),
    });
    if (!response.ok) throw new Error(`GitHub answered ${response.status}`);
    return response.json();
  };
  const user = (await get("/user")) as {
    id: number;
    login: string;
    name: string | null;
    avatar_url?: string;
  };
  const emails = (await get("/user/emails")) as { email: string; primary: boolean; verified: boolean }[];
  const primary = emails.find((email) => email.primary) ?? emails[0];
  if (!primary) return null;
  return {
    id: String(user.id),
    name: user.name ?? user.login,
    email: primary.email,
    emailVerified: primary.verified,
    image: user.avatar_url,
  };
}
