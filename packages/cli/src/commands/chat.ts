import { createInterface } from "node:readline/promises";
import { createClient, type SdkClient } from "@gfe/sdk";
import type { Command } from "commander";
import { Failure, reporting } from "../failure.ts";

const DEFAULT_HUB = "http://127.0.0.1:8080";

interface ChatOptions {
  hub: string;
  key?: string;
  model?: string;
  json?: boolean;
}

export function addChat(program: Command): void {
  program
    .command("chat [prompt...]")
    .description("ask a model; without a prompt, a conversation")
    .option("--hub <url>", "the hub", process.env.GFE_HUB ?? DEFAULT_HUB)
    .option("--key <key>", "API key; better in GFE_API_KEY, where no process list shows it")
    .option("--model <model>", "the model; the first on offer if not given")
    .option("--json", "the whole answer as one JSON object")
    .action(
      reporting(async (prompt: string[], options: ChatOptions) => {
        const apiKey = options.key ?? process.env.GFE_API_KEY;
        if (!apiKey) throw new Failure("an API key is needed: make one in the dashboard and set GFE_API_KEY");
        const client = createClient({ baseUrl: options.hub, apiKey });
        const model = options.model ?? (await firstModel(client));
        if (prompt.length > 0)
          await ask(client, model, [{ role: "user", content: prompt.join(" ") }], options.json);
        else await converse(client, model);
      }),
    );

  program
    .command("models")
    .description("what is on offer")
    .option("--hub <url>", "the hub", process.env.GFE_HUB ?? DEFAULT_HUB)
    .option("--json", "one JSON object")
    .action(
      reporting(async ({ hub, json }: { hub: string; json?: boolean }) => {
        const { models } = await createClient({ baseUrl: hub }).market();
        if (json) return console.log(JSON.stringify({ models }));
        if (models.length === 0) return console.log("No node is online. Start one with `gfe up`.");
        console.table(
          models.map(({ model, nodes, free_slots, context_length_max, scripted }) => ({
            model,
            nodes,
            "free slots": free_slots,
            context: context_length_max,
            scripted,
          })),
        );
      }),
    );
}

interface Message {
  role: "user" | "assistant";
  content: string;
}

async function firstModel(client: SdkClient): Promise<string> {
  const { models } = await client.market();
  if (!models[0]) throw new Failure("no node is online: start one with `gfe up`");
  return models[0].model;
}

async function ask(client: SdkClient, model: string, messages: Message[], json = false): Promise<string> {
  const answer = await client.chat({
    model,
    messages,
    onDelta: ({ content }) => json || (content && process.stdout.write(content)),
  });
  if (json) console.log(JSON.stringify(answer));
  else {
    process.stdout.write("\n");
    if (process.stderr.isTTY && answer.x_gfe)
      console.error(`(${answer.x_gfe.node_name}, ${answer.x_gfe.cost_credits} credits)`);
  }
  return answer.content;
}

async function converse(client: SdkClient, model: string): Promise<void> {
  console.error(`Talking to ${model}. An empty line or Ctrl-D ends it.`);
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const messages: Message[] = [];
  let isOpen = true; // at the end of input, lines may still be waiting
  terminal.once("close", () => {
    isOpen = false;
  });
  terminal.prompt();
  // Iterated, not asked for with question(): that loses the lines which come while an answer is on its way.
  for await (const line of terminal) {
    if (line.trim() === "") break;
    messages.push({ role: "user", content: line });
    messages.push({ role: "assistant", content: await ask(client, model, messages) });
    if (isOpen) terminal.prompt();
  }
  terminal.close();
}
