import type { Verdict } from "@gfe/ledger";
import type { Command } from "commander";
import { verifyLedger, withDatabase } from "../database.ts";
import { Failure, reporting } from "../failure.ts";
import { readConfig } from "./hub.ts";

export function addLedger(program: Command): void {
  const ledger = program.command("ledger").description("the double-entry ledger");
  ledger
    .command("verify")
    .description("recompute every invariant from the rows; exit status 1 where one is broken")
    .option("--hub <url>", "ask a running hub (an operator's session is needed) instead of the database")
    .option(
      "--session <token>",
      "an operator's session, for --hub: what POST /api/auth/sign-in/email answers in its header set-auth-token (or GFE_SESSION)",
      process.env.GFE_SESSION,
    )
    .option("--json", "one JSON object")
    .addHelpText(
      "after",
      "\nWithout --hub the database of GFE_DATA_DIR or DATABASE_URL is read, while its hub runs or not.\n",
    )
    .action(
      reporting(async (options: { hub?: string; session?: string; json?: boolean }) => {
        const verdict = options.hub
          ? await askHub(options.hub, options.session)
          : await withDatabase(readConfig(), verifyLedger);
        if (options.json) console.log(JSON.stringify(verdict));
        else
          for (const { name, ok, detail } of verdict.checks)
            console.log(`${ok ? "✓" : "✗"} ${name}${ok ? "" : `: ${detail}`}`);
        process.exitCode = verdict.ok ? 0 : 1;
      }),
    );
}

async function askHub(url: string, session: string | undefined): Promise<Verdict> {
  if (!session) throw new Failure("--hub needs --session or GFE_SESSION: the token of an operator's session");
  if (!/^https?:\/\//.test(url) || !URL.canParse(url)) throw new Failure(`${url} is not an http(s) address`);
  const response = await fetch(new URL("/api/v1/ledger/verify", url), {
    headers: { authorization: `Bearer ${session}` },
  }).catch((cause: Error) => {
    throw new Error(`the hub at ${url} cannot be reached`, { cause: cause.cause ?? cause });
  });
  const body = (await response.json().catch(() => ({}))) as Partial<Verdict> & { detail?: string };
  if (!response.ok || !body.checks)
    throw new Failure(`the hub answered ${response.status}: ${body.detail ?? "not as a hub does"}`);
  return body as Verdict;
}
