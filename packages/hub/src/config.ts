/** Configuration: environment variables, checked once at start. Nothing else reads the environment. */
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { parseCredits } from "@gfe/protocol";
import { parseTracingSettings, type TracingSettings, tracingVariables } from "@gfe/tracing";
import { z } from "zod";

export type OAuthProvider = "google" | "github" | "microsoft";

export interface Config {
  host: string;
  port: number;
  /** Where browsers and agents reach the hub; its origin is trusted. */
  publicUrl: string | null;
  dataDir: string;
  databaseUrl: string | null;
  /** Other hubs on the same database are reached through it. */
  redisUrl: string | null;
  /** A key pair as JSON, instead of the data directory's. */
  hubKey: string | null;
  secret: string | null;
  signupCreditsMicro: bigint;
  /** What a provider gets when its node has first answered a canary prompt; 0 for none. */
  firstCreditMicro: bigint;
  /** The most that goes into first credits in a day. */
  firstCreditBudgetMicro: bigint;
  feeBasisPoints: number;
  logLevel: "fatal" | "error" | "warn" | "info" | "debug" | "silent";
  bodyLimitBytes: number;
  trustedProxies: string[];
  connectionsPerAddress: number;
  trustedOrigins: string[];
  queueMax: number;
  queueModelMax: number;
  queueWaitMs: number;
  queueBatchWaitMs: number;
  /** For each account; 0: no limit. */
  rateRequestsPerMinute: number;
  rateTokensPerMinute: number;
  firstTokenTimeoutMs: number;
  stallTimeoutMs: number;
  totalTimeoutMs: number;
  drainMs: number;
  drainNoticeMs: number;
  hubLostMs: number;
  /** Log-in attempts from one address in a window of 10 s. */
  loginsMax: number;
  /** Whether webhooks may lead to addresses that are not public, and over plain HTTP. */
  webhookAllowPrivate: boolean;
  /** Between two canary prompts to one idle node, about; 0 for none. */
  canaryIntervalS: number;
  /** How long a stored response is kept after its conversation last went on; 0: none is stored. */
  responseHours: number;
  /** Where the agent's release lies; null: where it was built, beside the program. */
  downloadsDir: string | null;
  oauth: Partial<Record<OAuthProvider, { clientId: string; clientSecret: string; url: string | null }>>;
  /** Null: no traces. */
  tracing: TracingSettings | null;
}

/** Decimal digits: what else JavaScript takes for a number (" ", "0x10", "1e3") is a slip here. */
const number = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,15}$/, `must be a whole number from ${min} to ${max}`)
    .transform(Number)
    .refine((value) => value >= min && value <= max, `must be a whole number from ${min} to ${max}`);
/** Text that passes the test, or none. */
const credits = z
  .string()
  .refine((text) => (parseCredits(text) ?? -1n) >= 0n, "must be an amount of credits such as 100 or 2.5");
const blankOr = (test: (text: string) => boolean, message: string) =>
  z.string().refine((text) => text === "" || test(text), message);
const isHttp = (text: string) => /^https?:\/\//.test(text) && URL.canParse(text);
const isOrigin = (text: string) => isHttp(text) && new URL(text).href === `${new URL(text).origin}/`;
const address = z.union([z.ipv4(), z.ipv6(), z.cidrv4(), z.cidrv6()]);
const listOf = (text: string): string[] =>
  text
    .split(",")
    .map((part) => part.trim())
    .filter(Boolean);

function isKeyPair(text: string): boolean {
  const field = z.string().regex(/^[A-Za-z0-9_-]+$/);
  try {
    return z.strictObject({ publicKey: field, privateKey: field }).safeParse(JSON.parse(text)).success;
  } catch {
    return false;
  }
}

interface Variable {
  name: string;
  meaning: string;
  default: string;
  secret?: boolean;
  schema: z.ZodType;
}

const oauthVariables = (["google", "github", "microsoft"] as const).flatMap((provider): Variable[] => {
  const NAME = `GFE_${provider.toUpperCase()}`;
  return [
    {
      name: `${NAME}_CLIENT_ID`,
      meaning: `Sign-in with ${provider}: the client id; on when id and secret are set`,
      default: "",
      schema: z.string(),
    },
    {
      name: `${NAME}_CLIENT_SECRET`,
      meaning: `Sign-in with ${provider}: the client secret`,
      default: "",
      secret: true,
      schema: z.string(),
    },
    {
      name: `${NAME}_URL`,
      meaning: `Sign-in with ${provider}: another server of that kind (GitHub Enterprise, a tenant, a test)`,
      default: "",
      schema: blankOr(isHttp, "must be an http(s) address"),
    },
  ];
});

/** Every variable the hub reads; `docs/configuration.md` is made of this. */
export const configVariables: Variable[] = [
  { name: "HOST", meaning: "Address to listen on", default: "127.0.0.1", schema: z.string().min(1) },
  {
    name: "PORT",
    meaning: "Port to listen on; 0 picks a free one",
    default: "8080",
    schema: number(0, 65535),
  },
  {
    name: "GFE_PUBLIC_URL",
    meaning: "Where others reach the hub, if not at HOST and PORT",
    default: "",
    schema: blankOr(isOrigin, "must be an http(s) address without a path"),
  },
  {
    name: "GFE_DATA_DIR",
    meaning: "Database, keys and secrets",
    default: defaultDataDir(),
    schema: z.string().min(1),
  },
  {
    name: "DATABASE_URL",
    meaning: "A PostgreSQL of yours (15 or newer) instead of the embedded one",
    default: "",
    secret: true,
    schema: blankOr((text) => /^postgres(ql)?:\/\//.test(text), "must begin with postgresql://"),
  },
  {
    name: "REDIS_URL",
    meaning:
      "A Redis or Valkey through which several hubs on one DATABASE_URL serve each other's nodes; they need the same GFE_SECRET and GFE_HUB_KEY",
    default: "",
    secret: true,
    schema: blankOr((text) => /^rediss?:\/\//.test(text), "must begin with redis:// or rediss://"),
  },
  {
    name: "GFE_HUB_KEY",
    meaning:
      "The key that agents know this hub by, as the first hub has it in hub-key.json of its data directory; made and kept there when unset",
    default: "",
    secret: true,
    schema: blankOr(isKeyPair, "must be what a hub has in hub-key.json"),
  },
  {
    name: "GFE_SECRET",
    meaning: "Signs sessions; made and kept in the data directory when unset",
    default: "",
    secret: true,
    schema: blankOr((text) => text.length >= 32, "must have at least 32 characters"),
  },
  {
    name: "GFE_SIGNUP_CREDITS",
    meaning: "Credits that a new account gets; 0 for none",
    default: "100",
    schema: credits,
  },
  {
    name: "GFE_FIRST_CREDIT",
    meaning:
      "Credits that a provider gets once, when its node has first answered a canary prompt; 0 for none, as with no canary prompts",
    default: "1",
    schema: credits,
  },
  {
    name: "GFE_FIRST_CREDIT_BUDGET",
    meaning: "The most credits that go into first credits in a day",
    default: "100",
    schema: credits,
  },
  {
    name: "GFE_FEE_PERCENT",
    meaning: "The operator's share of each charge",
    default: "5",
    schema: z
      .string()
      .regex(
        /^(\d{1,2}(\.\d{1,2})?|100(\.00?)?)$/,
        "must be a percentage from 0 to 100, with two decimals at most",
      )
      .transform(Number),
  },
  {
    name: "GFE_LOG_LEVEL",
    meaning: "fatal, error, warn, info, debug or silent",
    default: "info",
    schema: z.enum(["fatal", "error", "warn", "info", "debug", "silent"], {
      error: "must be fatal, error, warn, info, debug or silent",
    }),
  },
  {
    name: "GFE_BODY_LIMIT_BYTES",
    meaning: "The largest request body",
    default: "20971520",
    schema: number(1024, 1 << 30),
  },
  {
    name: "GFE_TRUSTED_PROXIES",
    meaning: "Addresses or networks, separated by commas, whose X-Forwarded-For is believed",
    default: "",
    schema: z
      .string()
      .transform(listOf)
      .refine(
        (parts) => parts.every((part) => address.safeParse(part).success),
        "must be addresses or networks such as 10.0.0.1, 10.0.0.0/8",
      ),
  },
  {
    name: "GFE_CONNECTIONS_PER_ADDRESS",
    meaning:
      "Connections that one address may hold at once; trusted proxies, this machine and joined nodes are not counted (0: no limit)",
    default: "2048",
    schema: number(0, 1_000_000),
  },
  {
    name: "GFE_TRUSTED_ORIGINS",
    meaning: "Origins beside the hub's own, separated by commas, from whose pages people may act",
    default: "",
    schema: z
      .string()
      .transform(listOf)
      .refine(
        (parts) => parts.every((part) => URL.canParse(part) && new URL(part).origin === part),
        "must be origins such as https://app.example.org",
      ),
  },
  {
    name: "GFE_QUEUE_MAX",
    meaning: "Requests that may wait for a slot; one account may fill half of what is free",
    default: "2000",
    schema: number(0, 1_000_000),
  },
  {
    name: "GFE_QUEUE_MODEL_MAX",
    meaning: "Requests that may wait for one model",
    default: "1000",
    schema: number(0, 1_000_000),
  },
  {
    name: "GFE_QUEUE_WAIT_MS",
    meaning: "How long one may wait",
    default: "30000",
    schema: number(0, 3_600_000),
  },
  {
    name: "GFE_QUEUE_BATCH_WAIT_MS",
    meaning: "How long one of priority batch may wait",
    default: "600000",
    schema: number(0, 86_400_000),
  },
  {
    name: "GFE_RATE_REQUESTS_PER_MINUTE",
    meaning: "Inference requests that one account may send a minute; 0 for no limit",
    default: "6000",
    schema: number(0, 1_000_000_000),
  },
  {
    name: "GFE_RATE_TOKENS_PER_MINUTE",
    meaning: "Tokens, in and out, that one account may use a minute; 0 for no limit",
    default: "20000000",
    schema: number(0, 1_000_000_000_000),
  },
  {
    name: "GFE_FIRST_TOKEN_TIMEOUT_MS",
    meaning: "From dispatch to a node's first token",
    default: "120000",
    schema: number(10, 3_600_000),
  },
  {
    name: "GFE_STALL_TIMEOUT_MS",
    meaning: "Silence between two tokens",
    default: "30000",
    schema: number(10, 3_600_000),
  },
  {
    name: "GFE_TOTAL_TIMEOUT_MS",
    meaning: "A whole answer",
    default: "900000",
    schema: number(10, 86_400_000),
  },
  {
    name: "GFE_DRAIN_MS",
    meaning: "How long running answers may take to end when the hub stops",
    default: "30000",
    schema: number(0, 3_600_000),
  },
  {
    name: "GFE_DRAIN_NOTICE_MS",
    meaning:
      "How long a hub that stops, while others go on, still takes new requests: as long as the load balancer needs to see its /readyz say 503. Its agents move to the others meanwhile",
    default: "5000",
    schema: number(0, 3_600_000),
  },
  {
    name: "GFE_HUB_LOST_MS",
    meaning:
      "A hub on the same database that gave no sign of life for so long is taken for dead, and what it held is given back",
    default: "30000",
    schema: number(1_000, 3_600_000),
  },
  {
    name: "GFE_LOGINS_MAX",
    meaning: "Log-ins and registrations from one address in 10 s",
    default: "3",
    schema: number(1, 1_000_000),
  },
  {
    name: "GFE_WEBHOOK_ALLOW_PRIVATE",
    meaning: "1 lets webhooks lead to private addresses and plain HTTP: only where all users are trusted",
    default: "0",
    schema: z.enum(["0", "1"], { error: "must be 0 or 1" }),
  },
  {
    name: "GFE_CANARY_INTERVAL",
    meaning: "Seconds, about, between two canary prompts to an idle node, unpaid; 0 for none",
    default: "3600",
    schema: number(0, 30 * 86_400),
  },
  {
    name: "GFE_RESPONSE_HOURS",
    meaning:
      "Hours that a response of /v1/responses is kept, prompt and answer, after its conversation last went on, unless its caller says `store: false`; 0 keeps none",
    default: "24",
    schema: number(0, 30 * 24),
  },
  {
    name: "GFE_DOWNLOADS_DIR",
    meaning: "The agent's release that `/download` serves; `dist/agents` beside the program when unset",
    default: "",
    schema: z.string(),
  },
  ...oauthVariables,
  ...tracingVariables.map((variable) => ({ ...variable, schema: z.string() })),
];

export interface ConfigProblem {
  variable: string;
  message: string;
}

export type ConfigResult =
  | { ok: true; config: Config; warnings: ConfigProblem[] }
  | { ok: false; problems: ConfigProblem[]; warnings: ConfigProblem[] };

/** Names every bad value at once; variables that look like ours but are not are warnings. */
export function parseConfig(env: Record<string, string | undefined>): ConfigResult {
  const problems: ConfigProblem[] = [];
  const values = new Map<string, unknown>();
  for (const { name, default: fallback, schema } of configVariables) {
    const parsed = schema.safeParse(env[name] === undefined || env[name] === "" ? fallback : env[name]);
    if (parsed.success) values.set(name, parsed.data);
    else problems.push({ variable: name, message: parsed.error.issues[0]?.message ?? "is not valid" });
  }
  const oauth = oauthConfig(values, problems);
  problems.push(...fabricProblems(values));
  const tracing = parseTracingSettings(env);
  if (!tracing.ok) problems.push(...tracing.problems);
  const warnings = unknownVariables(env);
  if (problems.length > 0) return { ok: false, problems, warnings };
  const text = (name: string) => values.get(name) as string;
  const integer = (name: string) => values.get(name) as number;
  const config: Config = {
    host: text("HOST"),
    port: integer("PORT"),
    publicUrl: text("GFE_PUBLIC_URL").replace(/\/+$/, "") || null,
    dataDir: resolve(text("GFE_DATA_DIR")),
    databaseUrl: text("DATABASE_URL") || null,
    redisUrl: text("REDIS_URL") || null,
    hubKey: text("GFE_HUB_KEY") || null,
    secret: text("GFE_SECRET") || null,
    signupCreditsMicro: parseCredits(text("GFE_SIGNUP_CREDITS"))!,
    firstCreditMicro: parseCredits(text("GFE_FIRST_CREDIT"))!,
    firstCreditBudgetMicro: parseCredits(text("GFE_FIRST_CREDIT_BUDGET"))!,
    feeBasisPoints: Math.round(integer("GFE_FEE_PERCENT") * 100),
    logLevel: text("GFE_LOG_LEVEL") as Config["logLevel"],
    bodyLimitBytes: integer("GFE_BODY_LIMIT_BYTES"),
    trustedProxies: values.get("GFE_TRUSTED_PROXIES") as string[],
    connectionsPerAddress: integer("GFE_CONNECTIONS_PER_ADDRESS"),
    trustedOrigins: values.get("GFE_TRUSTED_ORIGINS") as string[],
    queueMax: integer("GFE_QUEUE_MAX"),
    queueModelMax: integer("GFE_QUEUE_MODEL_MAX"),
    queueWaitMs: integer("GFE_QUEUE_WAIT_MS"),
    queueBatchWaitMs: integer("GFE_QUEUE_BATCH_WAIT_MS"),
    rateRequestsPerMinute: integer("GFE_RATE_REQUESTS_PER_MINUTE"),
    rateTokensPerMinute: integer("GFE_RATE_TOKENS_PER_MINUTE"),
    firstTokenTimeoutMs: integer("GFE_FIRST_TOKEN_TIMEOUT_MS"),
    stallTimeoutMs: integer("GFE_STALL_TIMEOUT_MS"),
    totalTimeoutMs: integer("GFE_TOTAL_TIMEOUT_MS"),
    drainMs: integer("GFE_DRAIN_MS"),
    drainNoticeMs: integer("GFE_DRAIN_NOTICE_MS"),
    hubLostMs: integer("GFE_HUB_LOST_MS"),
    loginsMax: integer("GFE_LOGINS_MAX"),
    webhookAllowPrivate: text("GFE_WEBHOOK_ALLOW_PRIVATE") === "1",
    canaryIntervalS: integer("GFE_CANARY_INTERVAL"),
    responseHours: integer("GFE_RESPONSE_HOURS"),
    downloadsDir: text("GFE_DOWNLOADS_DIR") ? resolve(text("GFE_DOWNLOADS_DIR")) : null,
    oauth,
    tracing: tracing.ok ? tracing.settings : null,
  };
  return { ok: true, config, warnings };
}

/** Hubs that serve each other must be one to their agents and users. */
function fabricProblems(values: Map<string, unknown>): ConfigProblem[] {
  if (!values.get("REDIS_URL")) return [];
  const needed = ["DATABASE_URL", "GFE_SECRET", "GFE_HUB_KEY"].filter((variable) => !values.get(variable));
  return needed.map((variable) => ({
    variable,
    message: "must be set, the same for all hubs, where REDIS_URL is",
  }));
}

function oauthConfig(values: Map<string, unknown>, problems: ConfigProblem[]): Config["oauth"] {
  const oauth: Config["oauth"] = {};
  for (const provider of ["google", "github", "microsoft"] as const) {
    const NAME = `GFE_${provider.toUpperCase()}`;
    const [clientId, clientSecret, base] = ["CLIENT_ID", "CLIENT_SECRET", "URL"].map(
      (part) => (values.get(`${NAME}_${part}`) ?? "") as string,
    );
    if (clientId && clientSecret)
      oauth[provider] = { clientId, clientSecret, url: base?.replace(/\/+$/, "") || null };
    else if (clientId || clientSecret) {
      problems.push({
        variable: `${NAME}_CLIENT_${clientId ? "SECRET" : "ID"}`,
        message: `is needed too for sign-in with ${provider}`,
      });
    }
  }
  return oauth;
}

/** Variables of other parts of the product. */
const ELSEWHERE = new Set([
  "GFE_MODEL",
  "GFE_HUB",
  "GFE_API_KEY",
  "GFE_AGENT_TOKEN",
  "GFE_REGION",
  "GFE_DATA_POLICY",
  "GFE_ALIASES",
  "GFE_TEST_DATABASE_URL",
  "GFE_TEST_MODEL",
  "GFE_DEV_HUB",
  "GFE_SESSION",
  "GFE_DOWNLOAD",
  "GFE_RELEASE_KEY",
  "GFE_UPDATES",
  "GFE_UPDATE_INTERVAL",
  "GFE_UPDATE_URL",
]);

function unknownVariables(env: Record<string, string | undefined>): ConfigProblem[] {
  const known = configVariables.map(({ name }) => name);
  return Object.keys(env)
    .filter((name) => name.startsWith("GFE_") && !known.includes(name) && !ELSEWHERE.has(name))
    .map((variable) => {
      const near = known
        .map((name) => ({ name, far: distance(name, variable) }))
        .sort((a, b) => a.far - b.far)[0]!;
      return {
        variable,
        message: near.far <= 4 ? `is not known; did you mean ${near.name}?` : "is not known",
      };
    });
}

/** Levenshtein. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}

/** XDG for people; root's home is closed to the user that PostgreSQL runs as. */
function defaultDataDir(): string {
  if (process.getuid?.() === 0) return "/var/lib/gpu-for-everyone";
  return join(process.env.XDG_DATA_HOME || join(homedir(), ".local", "share"), "gpu-for-everyone");
}
