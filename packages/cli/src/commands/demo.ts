import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Agent, createMemoryFiles, createNodeHost, startAgent } from "@gfe/agent";
import { type Hub, startHub } from "@gfe/hub";
import { DEFAULT_PRICE, formatCredits } from "@gfe/protocol";
import { createClient } from "@gfe/sdk";
import type { Command } from "commander";
import { buildDashboard } from "../dashboard.ts";
import { chooseEngine, type EngineChoice } from "../demo/engine-choice.ts";
import { type Account, post, register } from "../demo/people.ts";
import { Failure, reporting } from "../failure.ts";
import { untilStopped } from "../signals.ts";
import { readConfig } from "./hub.ts";

const PROMPT = "Tell me in one short sentence why sharing GPUs is a good idea.";
const ANSWER_TOKENS_MAX = 48;
/** Prices of the two nodes, in credits a request. */
const PRICES = { "quick-fox": "1000000", "thrifty-bee": "600000" };

export function addDemo(program: Command): void {
  program
    .command("demo")
    .description(
      "the whole thing in one terminal: a hub, two nodes with different prices, a chat, the ledger rows that moved",
    )
    .option("--stay", "keep it up afterwards")
    .option("--download", "download the demo's model without asking, where no engine is found")
    .action(
      reporting(async ({ stay = false, download = false }: { stay?: boolean; download?: boolean }) => {
        const undo: (() => Promise<unknown> | unknown)[] = [];
        const stop = async () => {
          for (const step of undo.splice(0).reverse()) await step();
        };
        try {
          await play(undo, download, stay);
          if (stay) await untilStopped(stop);
        } finally {
          await stop();
        }
        process.exit(0); // a native engine may keep threads
      }),
    );
}

async function play(
  undo: (() => Promise<unknown> | unknown)[],
  download: boolean,
  stay: boolean,
): Promise<void> {
  const step = stepper();
  const host = createNodeHost();
  const choice = await chooseEngine(host, download);
  if (stay) await buildDashboard();

  step("A hub starts, with a database of its own");
  const hub = await startDemoHub(undo, stay);
  console.log(`  ${hub.url}`);

  step(`Two providers join with different prices, on ${choice.label}`);
  const providers = new Map<string, Account>();
  for (const [name, price] of Object.entries(PRICES)) {
    const account = await register(hub.url, name);
    providers.set(name, account);
    undo.push(() => agent.stop());
    const agent = await joinNode(hub, account, name, price, choice);
    console.log(`  ${name.padEnd(12)} ${agent.nodeId}  ${formatCredits(BigInt(price), 2)} credits a request`);
  }

  step("A consumer registers, makes a key and asks");
  const consumer = await register(hub.url, "consumer");
  const { secret } = await post<{ secret: string }>(hub.url, consumer, "/api/v1/keys", { label: "demo" });
  const client = createClient({ baseUrl: hub.url, apiKey: secret });
  console.log(
    `  models on offer: ${(await client.market()).models.map(({ model, nodes, scripted }) => `${model} on ${nodes} nodes${scripted ? " (scripted, no model)" : ""}`).join(", ")}`,
  );
  process.stdout.write(`  > ${PROMPT}\n  `);
  const answer = await client.chat({
    model: choice.model,
    messages: [{ role: "user", content: PROMPT }],
    maxTokens: ANSWER_TOKENS_MAX,
    onDelta: ({ content }) => process.stdout.write(content.replaceAll("\n", "\n  ")),
  });
  console.log(
    `\n  — ${answer.x_gfe?.node_name}, the cheaper one: ${answer.usage?.completion_tokens} tokens, ${answer.x_gfe?.cost_credits} credits`,
  );

  step("The ledger rows that moved");
  await showRows(hub, { consumer, ...Object.fromEntries(providers) }, answer.x_gfe!.job_id);
  if (stay) console.log(`\nStill up: ${hub.url} — Ctrl-C ends it.`);
}

async function startDemoHub(undo: (() => unknown)[], stay: boolean): Promise<Hub> {
  const dataDir = mkdtempSync(join(tmpdir(), "gfe-demo-"));
  chmodSync(dataDir, 0o711);
  undo.push(() => rmSync(dataDir, { recursive: true, force: true }));
  const { DATABASE_URL: _elsewhere, ...env } = process.env;
  const config = readConfig({
    ...env,
    GFE_DATA_DIR: dataDir,
    PORT: stay ? (env.PORT ?? "0") : "0",
    GFE_LOG_LEVEL: "warn",
    GFE_LOGINS_MAX: "100",
    GFE_DRAIN_MS: "1000",
    GFE_CANARY_INTERVAL: "0",
  });
  const hub = await startHub(config);
  undo.push(() => hub.stop());
  return hub;
}

async function joinNode(
  hub: Hub,
  account: Account,
  name: string,
  price: string,
  choice: EngineChoice,
): Promise<Agent> {
  const { secret } = await post<{ secret: string }>(hub.url, account, "/api/v1/agent-tokens", {
    label: name,
  });
  const host = createNodeHost({
    files: createMemoryFiles(),
    configDir: `/demo/${name}`,
    stateDir: `/demo/${name}`,
  });
  return startAgent({
    host,
    hubUrl: hub.url,
    token: secret,
    name,
    engines: [choice.make()],
    prices: { default: { ...DEFAULT_PRICE, per_request: price } },
  });
}

interface Row {
  id: string;
  amount_micro: string;
  code: string;
}

/** Prints each account's entries of the job; together with the hub's fee they are zero. */
async function showRows(hub: Hub, accounts: Record<string, Account>, jobId: string): Promise<void> {
  const rows: { account: string; amount: bigint; code: string }[] = [];
  for (const [name, { cookie }] of Object.entries(accounts)) {
    const response = await fetch(`${hub.url}/api/v1/ledger`, { headers: { cookie } });
    const { entries } = (await response.json()) as { entries: (Row & { reference: string | null })[] };
    for (const entry of entries)
      if (entry.reference === jobId)
        rows.push({ account: name, amount: BigInt(entry.amount_micro), code: entry.code });
  }
  const fee = -rows.filter(({ code }) => code === "fee").reduce((sum, { amount }) => sum + amount, 0n);
  rows.push({ account: "hub:fees", amount: fee, code: "fee" });
  for (const { account, amount, code } of rows)
    console.log(`  ${account.padEnd(12)} ${formatCredits(amount, 6).padStart(12)}  ${code}`);
  const sum = rows.reduce((total, { amount }) => total + amount, 0n);
  console.log(`  ${"sum".padEnd(12)} ${formatCredits(sum, 6).padStart(12)}`);

  // The first account of a hub is its operator: it may ask for proof.
  const operator = Object.values(accounts)[1]!;
  const response = await fetch(`${hub.url}/api/v1/ledger/verify`, { headers: { cookie: operator.cookie } });
  const { ok, checks } = (await response.json()) as { ok: boolean; checks: { name: string }[] };
  console.log(
    `  the ledger ${ok ? "verifies" : "DOES NOT VERIFY"}: ${checks.length} invariants recomputed from its rows`,
  );
  if (!ok || sum !== 0n) throw new Failure("the ledger does not add up");
}

function stepper(): (title: string) => void {
  let number = 0;
  return (title) => console.log(`\n${++number}. ${title}`);
}
