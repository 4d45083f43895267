/** `gfe why`: why this node gets requests, or does not, and what would change it. */
import { type CanaryReport, canaryReportSchema, type NodeStanding, nodeStandingSchema } from "@gfe/protocol";
import { requestAgent } from "../control/client.ts";
import { counted } from "../control/status.ts";
import type { Host } from "../host.ts";
import { parseHubAddress } from "../hub-address.ts";
import type { HubCall } from "../hub-api.ts";
import { printable } from "../panel/text.ts";
import { askStanding, askTest, nodeIdOf, nodeKeyOf } from "../standing.ts";
import { EXIT, type Output } from "./command.ts";
import { hubContext } from "./context.ts";

interface WhyOptions {
  hub?: string;
  token?: string;
  test?: string;
  json?: boolean;
}

/** Longer than the agent waits for its hub. */
const TEST_MS = 130_000;
const UNKNOWN_HUB = "no hub is known: name one with --hub or GFE_HUB, or start `gfe up`";
const NO_TOKEN = "this machine has no agent token for the hub: start `gfe up`, or give GFE_AGENT_TOKEN";
const NO_NODE = "the hub knows no node of this machine: start `gfe up` once";

export async function whyCommand(host: Host, options: WhyOptions, out: Output): Promise<number> {
  try {
    const answer = await ask(host, options);
    if (options.json) out.line(JSON.stringify(answer));
    else
      for (const line of "passed" in answer ? testLines(answer) : standingLines(answer))
        out.line(printable(line));
    return "passed" in answer && !answer.passed ? EXIT.failed : EXIT.fine;
  } catch (error) {
    out.error(`gfe: ${printable((error as Error).message)}`);
    return EXIT.failed;
  }
}

/** Through the running agent, which has the token; else by the token that is kept or given. */
async function ask(host: Host, options: WhyOptions): Promise<NodeStanding | CanaryReport> {
  const { test } = options;
  const { hub, token, status } = await hubContext(host, options);
  if (status && hub === status.hub) {
    const answered =
      test === undefined
        ? await requestAgent(host, "/standing")
        : await requestAgent(host, "/test", { model: test }, TEST_MS);
    if (answered.type === "answer")
      return test === undefined
        ? nodeStandingSchema.parse(answered.body)
        : canaryReportSchema.parse(answered.body);
    if (answered.type === "refused") throw new Error(answered.message);
  }
  if (hub === null) throw new Error(UNKNOWN_HUB);
  if (token === null) throw new Error(NO_TOKEN);
  const call: HubCall = { host, origin: parseHubAddress(hub).origin, token };
  const nodeId = await nodeIdOf(call, await nodeKeyOf(host));
  if (nodeId === null) throw new Error(NO_NODE);
  return test === undefined ? askStanding(call, nodeId) : askTest(call, nodeId, test);
}

const STATES: Record<NodeStanding["state"], string> = {
  offline: "It is offline: nothing is sent to it.",
  paused: "It is paused, or about to leave: nothing is sent to it.",
  online: "It is online.",
};

/** For people: by model, how often it was asked for and chosen, and what stood in its way. */
export function standingLines({ state, models }: NodeStanding): string[] {
  if (models.length === 0) return [STATES[state], "It offers no models: see `gfe doctor`."];
  return [
    STATES[state],
    ...models.flatMap(({ model, asked, chosen, reasons }) => [
      "",
      `${model}: asked for ${counted(asked.day, "time")} in a day, chosen ${chosen.day}; in the last hour ${chosen.hour} of ${asked.hour}`,
      ...reasons.flatMap(({ counts, words, cure }) => [
        `  ${counts.day > 0 ? `${counts.day} ×` : "–"} ${words}`,
        ...(cure === "" ? [] : [`      → ${cure}`]),
      ]),
    ]),
  ];
}

function testLines({
  passed,
  words,
  cure,
  first_token_ms,
  total_ms,
  output_tokens,
  unmet,
}: CanaryReport): string[] {
  const first = first_token_ms === null ? "" : `, the first after ${Math.round(first_token_ms)} ms`;
  return [
    `${passed ? "✓" : "✗"} ${words}`,
    `  ${counted(output_tokens, "token")} in ${(total_ms / 1000).toFixed(1)} s${first}`,
    ...(cure === "" ? [] : [`  → ${cure}`]),
    ...(unmet === null ? [] : [`  A consumer's request would not come here now: ${unmet}`]),
  ];
}
