/**
 * People: registration, sessions, sign-in with others, the device grant; by better-auth, on our database. Machines'
 * secrets are in secrets.ts. What better-auth needs of tables is in db/migrations/0001-accounts.sql.
 */
import { betterAuth } from "better-auth";
import { bearer, deviceAuthorization } from "better-auth/plugins";
import type pg from "pg";
import type { Config } from "../config.ts";
import { otherProviders, socialProviders } from "./oauth.ts";

/** Who asked, as the hub saw it; set by the hub alone, so that no caller can name its own address. */
export const CLIENT_ADDRESS_HEADER = "x-gfe-client-address";
export const DEVICE_CLIENTS: ReadonlySet<string> = new Set(["gfe-agent", "gfe-cli"]);
const LOGIN_WINDOW_S = 10;
const PASSWORD = { min: 8, max: 128 };
/** Who somebody is, is all we ask of the others; what else their tokens open is not ours to keep. */
const NO_TOKENS = { accessToken: null, refreshToken: null, idToken: null };

export interface AuthOptions {
  pool: pg.Pool;
  baseUrl: string;
  secret: string;
  trustedOrigins: string[];
  loginsMax: number;
  oauth: Config["oauth"];
  /** After a user's row is committed, and again at each log-in. */
  onUser(userId: string): Promise<void>;
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
    // Accounts of one e-mail address are joined only where both sides have proven the address: neither can somebody
    // register a stranger's address and wait for it, nor does a provider that checks no address open an account here.
    account: { accountLinking: { enabled: true, requireLocalEmailVerified: true } },
    socialProviders: socialProviders(options.oauth),
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
    advanced: {
      ipAddress: { ipAddressHeaders: [CLIENT_ADDRESS_HEADER] },
      cookiePrefix: "gfe",
      disableOriginCheck: false, // or NODE_ENV=test would switch both off
      disableCSRFCheck: false,
    },
    databaseHooks: {
      user: { create: { after: async ({ id }) => options.onUser(id) } },
      session: { create: { before: async ({ userId }) => options.onUser(userId) } },
      account: {
        create: { before: async () => ({ data: NO_TOKENS }) },
        update: { before: async () => ({ data: NO_TOKENS }) },
      },
    },
    plugins: [
      // The session as the table has it opens nothing: only what was signed with the hub's secret does.
      bearer({ requireSignature: true }),
      deviceAuthorization({
        expiresIn: "15m",
        interval: "5s",
        userCodeLength: 8,
        verificationUri: "/device",
        validateClient: (clientId) => DEVICE_CLIENTS.has(clientId),
      }),
      otherProviders(options.oauth),
    ],
  });
}
