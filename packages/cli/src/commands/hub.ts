import { type Config, parseConfig, startHub } from "@gfe/hub";
import type { Command } from "commander";
import { buildDashboard } from "../dashboard.ts";
import { Failure, reporting } from "../failure.ts";
import { createStopRequest, untilStopped } from "../signals.ts";

export function addHub(program: Command): void {
  program
    .command("hub")
    .description(
      "start a hub: API and dashboard on one port, with its own database unless DATABASE_URL is set",
    )
    .option("--no-build", "do not build the dashboard first, even if it is missing or old")
    .addHelpText(
      "after",
      "\nSettings come from the environment; `gfe config check` lists them.\nExample:\n  PORT=9000 GFE_SIGNUP_CREDITS=0 gfe hub\n",
    )
    .action(
      reporting(async ({ build }: { build: boolean }) => {
        const stopRequest = createStopRequest();
        if (build) await buildDashboard();
        const config = readConfig();
        const hub = await startHub(config);
        stopRequest.onAgain(() => hub.abandon());
        console.log(banner(hub.url, config));
        await untilStopped(async () => {
          console.log("\nStopping: running answers may end first. Press Ctrl-C again to stop at once.");
          await hub.stop();
        }, stopRequest);
      }),
    );
}

/** The configuration of this process's environment; a Failure that names every bad variable otherwise. */
export function readConfig(env: Record<string, string | undefined> = process.env): Config {
  const result = parseConfig(env);
  if (!result.ok)
    throw new Failure(
      `the configuration is not valid:\n${result.problems.map(({ variable, message }) => `  ${variable} ${message}`).join("\n")}`,
    );
  for (const { variable, message } of result.warnings) console.error(`gfe: warning: ${variable} ${message}`);
  return result.config;
}

function banner(url: string, config: Config): string {
  return `
  GPU For Everyone is running.

    Dashboard     ${url}          register there; the first account is the operator
    API           ${url}/v1       for any OpenAI client, with a key from the dashboard
    Reference     ${url}/docs
    Data          ${config.databaseUrl ? "your PostgreSQL, keys in " : ""}${config.dataDir}

  Share a GPU     npm run gfe -- up --hub ${url}
  See it work     npm run demo
  Stop            Ctrl-C
`;
}
