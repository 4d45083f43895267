/** The way to the hub: address, name, connection, encryption, clock, key, token. */
import { agentSelfSchema, publicConfigSchema } from "@gfe/protocol";
import { parseHubAddress } from "../hub-address.ts";
import { askHub, type HubAnswer, problemOf } from "../hub-api.ts";
import { createHubRecords } from "../hub-records.ts";
import { durationText } from "../panel/text.ts";
import { AGENT_VERSION } from "../version.ts";
import { type Check, compareVersions, type DoctorContext, failed, ok, warning } from "./check.ts";

const SKEW_WARN_MS = 30_000;
/** Certificates and signatures are judged by the clock. */
const SKEW_FAILED_MS = 3_600_000;

export async function checkHub(context: DoctorContext): Promise<Check[]> {
  const { host, hub } = context;
  if (hub === null)
    return [
      failed("hub", "no hub is known", "name one: gfe doctor --hub https://hub.example.org, or GFE_HUB"),
    ];
  let origin: string;
  try {
    ({ origin } = parseHubAddress(hub));
  } catch (error) {
    return [failed("hub", (error as Error).message, "correct --hub or GFE_HUB")];
  }
  let answer: HubAnswer;
  try {
    answer = await askHub({ host, origin }, "/api/v1/config");
  } catch (error) {
    return [unreached(origin, error), ...environment(context)];
  }
  const config = publicConfigSchema.safeParse(answer.body);
  if (answer.status !== 200 || !config.success)
    return [
      failed(
        "hub",
        `${origin} answers, but not as a hub does (${answer.status})`,
        "look whether the address is right, and whether a proxy or a log-in page answers in its place",
      ),
      ...environment(context),
    ];
  return [
    ok("hub", `${origin} answers in ${Math.round(answer.tookMs)} ms`),
    ...(await key(context, origin, config.data.hub_key)),
    ...clock(context, answer),
    ...(await token(context, origin)),
    version(config.data.version),
  ];
}

/** Causes by the code that the connection broke with, and their cures. */
const CAUSES: readonly (readonly [RegExp, string, string])[] = [
  [/^(ENOTFOUND|EAI_AGAIN)$/, "its name is not found", "look at the spelling and at this machine's DNS"],
  [/^ECONNREFUSED$/, "nothing listens there", "look at the port, and whether the hub runs"],
  [
    /^(ETIMEDOUT|EHOSTUNREACH|ENETUNREACH)$/,
    "there is no way to it",
    "look at the network and the firewall: the agent only dials out, to this address",
  ],
  [
    /^(ECONNRESET|EPROTO|ERR_SSL_WRONG_VERSION_NUMBER)$/,
    "the connection is cut",
    "look whether it is https:// or http://, and whether a proxy stands between",
  ],
  [
    /^CERT_HAS_EXPIRED$/,
    "its certificate has expired, or this machine's clock is wrong",
    "set the clock; else the hub's operator must renew the certificate",
  ],
  [
    /^CERT_NOT_YET_VALID$/,
    "its certificate is not valid yet: this machine's clock is likely wrong",
    "set the clock",
  ],
  [
    /^ERR_TLS_CERT_ALTNAME_INVALID$/,
    "its certificate is for another name",
    "use the hub's own name as its address",
  ],
  [
    /(SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER)/,
    "its certificate is signed by nobody this machine knows",
    "where a company's proxy or an own authority signs it, set NODE_EXTRA_CA_CERTS to the authority's certificate (PEM)",
  ],
];

function unreached(origin: string, error: unknown): Check {
  const { code, message } = error as { code?: unknown; message: string };
  const cause = CAUSES.find(([pattern]) => typeof code === "string" && pattern.test(code));
  return failed(
    "hub",
    `${origin} is not reached: ${cause ? cause[1] : message}`,
    cause ? cause[2] : "look at the address, the network and the firewall",
  );
}

const PROXIES = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/** What of the environment may stand between, told only where the hub is not reached. */
function environment({ host: { env } }: DoctorContext): Check[] {
  const set = PROXIES.filter((name) => env[name]);
  return set.length === 0
    ? []
    : [
        warning(
          "proxy",
          `${set.join(", ")} is set: the hub is dialled through that proxy`,
          "look whether the proxy lets CONNECT through to the hub; NO_PROXY names what is dialled directly",
        ),
      ];
}

async function key({ host }: DoctorContext, origin: string, told: string): Promise<Check[]> {
  const pinned = (
    await createHubRecords(host)
      .get(origin)
      .catch(() => null)
  )?.key;
  if (pinned === undefined) return [];
  if (pinned === told) return [ok("hub key", "the hub has the key that was pinned at joining")];
  return [
    failed(
      "hub key",
      "the hub has another key than the one pinned at joining",
      "ask its operator whether the key was changed; if so, remove the hub from hubs.json and join anew",
    ),
  ];
}

function clock({ host }: DoctorContext, { dateMs, tookMs }: HubAnswer): Check[] {
  if (dateMs === null) return [];
  const skewMs = host.nowMs() - dateMs;
  const off = Math.max(0, Math.abs(skewMs) - tookMs - 1_000); // the header has whole seconds
  const words = `this machine's clock is ${durationText(Math.abs(skewMs))} ${skewMs > 0 ? "ahead of" : "behind"} the hub's`;
  const cure = "let the system set its clock from the network (NTP)";
  if (off >= SKEW_FAILED_MS) return [failed("clock", words, cure)];
  return [off >= SKEW_WARN_MS ? warning("clock", words, cure) : ok("clock", "it agrees with the hub's")];
}

async function token({ host, token, status }: DoctorContext, origin: string): Promise<Check[]> {
  if (token === null && status?.hub === origin && status.connection.state === "joined")
    return [ok("token", "the running agent has joined with the one that it was given")];
  if (token === null)
    return [
      warning(
        "token",
        "this machine has no agent token for the hub yet",
        "run `gfe up` and approve it in the browser",
      ),
    ];
  const answer = await askHub({ host, origin, token }, "/api/v1/agent-tokens/self").catch(() => null);
  const self = agentSelfSchema.safeParse(answer?.body);
  if (answer?.status === 200 && self.success)
    return [ok("token", `the agent token "${self.data.label}" is valid`)];
  if (answer?.status === 401)
    return [
      failed(
        "token",
        `the hub refuses the agent token: ${problemOf(answer)}`,
        "run `gfe up` and approve it anew, or make another token in the dashboard",
      ),
    ];
  return [
    warning(
      "token",
      "the hub does not say whether the agent token is valid",
      "ask again later; an older hub cannot tell",
    ),
  ];
}

function version(hub: string): Check {
  return compareVersions(AGENT_VERSION, hub) >= 0
    ? ok("version", `agent ${AGENT_VERSION}, hub ${hub}`)
    : warning(
        "version",
        `agent ${AGENT_VERSION} is older than the hub (${hub})`,
        "update it: see the hub's download page",
      );
}
