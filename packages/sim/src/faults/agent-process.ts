/** An agent as a process of its own, on an engine that tells one story; for tests that kill it. One line for each event. */
import { createNodeHost, createScriptedEngine, startAgent } from "@gfe/agent";
import type { PriceWire } from "@gfe/protocol";

/** What every node here says, a piece a token, no piece like another: so that a repeated or lost one shows. */
export const STORY = Array.from({ length: 40 }, (_, at) => `word-${at} `);
export const STORY_MODEL = "story";
/** Of one token said, in micro-credits; nothing else costs anything. */
export const STORY_TOKEN_MICRO = 1_000n;
/** The same everywhere, so that any node may go on with the answer of any other. */
const DIGEST = `sha256:${"c".repeat(64)}`;
const PRICE: PriceWire = {
  per_request: "0",
  per_million_input: "0",
  per_million_output: (STORY_TOKEN_MICRO * 1_000_000n).toString(),
};

export interface AgentSettings {
  hubUrl: string;
  token: string;
  name: string;
  /** Where its key lies: the same directory is the same node. */
  configDir: string;
  slots: number;
  paceMs: number;
}

async function main(settings: AgentSettings): Promise<void> {
  const { hubUrl, token, name, configDir, slots, paceMs } = settings;
  const host = createNodeHost({ configDir, stateDir: configDir });
  const script = { models: [{ name: STORY_MODEL, slots, digest: DIGEST }], text: STORY, paceMs };
  const agent = await startAgent({
    ...{ host, hubUrl, token, name, slots, gpus: [], prices: { default: PRICE } },
    engines: [createScriptedEngine(host, script)],
    onEvent: (event) => console.log(JSON.stringify(event)),
  });
  const end = await agent.done;
  if (end.type === "fault") throw end.error;
}

if (import.meta.main) await main(JSON.parse(process.argv[2]!) as AgentSettings);
