import { configVariables, parseConfig } from "@gfe/hub";
import type { Command } from "commander";
import { reporting } from "../failure.ts";

export function addConfig(program: Command): void {
  const config = program.command("config").description("the hub's configuration");
  config
    .command("check")
    .description("check the environment and show what is in force; exit status 1 on a problem")
    .option("--json", "one JSON object")
    .action(
      reporting(async ({ json }: { json?: boolean }) => {
        const result = parseConfig(process.env);
        const { warnings } = result;
        const problems = result.ok ? [] : result.problems;
        const variables = configVariables.map(({ name, meaning, default: fallback, secret }) => ({
          name,
          value: secret && process.env[name] ? "(set)" : (process.env[name] ?? fallback),
          set: process.env[name] !== undefined,
          meaning,
        }));
        if (json) console.log(JSON.stringify({ ok: result.ok, problems, warnings, variables }));
        else {
          const width = Math.max(...variables.map(({ name }) => name.length));
          for (const { name, value, set, meaning } of variables)
            console.log(`${set ? "*" : " "} ${name.padEnd(width)}  ${value || "–"}  — ${meaning}`);
          console.log("\n* set in the environment");
          for (const { variable, message } of warnings) console.error(`warning: ${variable} ${message}`);
          for (const { variable, message } of problems) console.error(`error: ${variable} ${message}`);
          if (result.ok) console.log("The configuration is valid.");
        }
        process.exitCode = result.ok ? 0 : 1;
      }),
    );
}
