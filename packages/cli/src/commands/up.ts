import {
  AGENT_VERSION,
  type AgentEvent,
  createBuiltInEngine,
  createHubRecords,
  createNodeHost,
  createScriptedEngine,
  type DetectOptions,
  type Engine,
  type Host,
  parseAliases,
  parseHubAddress,
  parsePrice,
  requestDeviceGrant,
  startAgent,
} from "@gfe/agent";
import { type DataPolicy, dataPolicySchema, type PriceWire, regionSchema } from "@gfe/protocol";
import { parseTracingSettings, startTracing, type Tracing } from "@gfe/tracing";
import { type Command, InvalidArgumentError, Option } from "commander";
import { Failure, reporting } from "../failure.ts";
import { createLines } from "../lines.ts";
import { onStopSignals } from "../signals.ts";

interface UpOptions {
  hub: string;
  token?: string;
  modelPath?: string;
  engine: string[];
  slots?: number;
  name?: string;
  price?: PriceWire;
  region?: string;
  dataPolicy?: DataPolicy;
  alias?: ReadonlyMap<string, string>;
  scripted?: boolean;
  detect: boolean;
  configDir?: string;
  json?: boolean;
}

export function addUp(program: Command): void {
  program
    .command("up")
    .description("share this machine's engines through a hub and earn")
    .option("--hub <url>", "the hub", process.env.GFE_HUB ?? "http://127.0.0.1:8080")
    .option("--token <token>", "agent token, for machines without a browser near; better in GFE_AGENT_TOKEN")
    .option("--model-path <gguf>", "run this model on the built-in engine (or GFE_MODEL)")
    .option(
      "--engine <url>",
      "an engine at an unusual address; may be repeated",
      (url: string, urls: string[]) => [...urls, url],
      [],
    )
    .option("--no-detect", "do not look for engines at their usual ports")
    .option("--slots <n>", "answers at once, over all models", positive)
    .option("--name <name>", "the node's name; this machine's if not given")
    .option(
      "--price <price>",
      "in credits: 0.5 is per request; request=0,in=0.2,cached=0.05,out=0.6,min=0.01,batch=50 names parts: per request, per million tokens (cached: input from the engine's cache), the least for an answer, percent off for batch work. `gfe price` overrides it",
      toPrice,
    )
    .addOption(
      new Option(
        "--region <region>",
        "where this machine stands, such as de or eu-west; consumers may ask for it",
      )
        .env("GFE_REGION")
        .argParser(toRegion),
    )
    .addOption(
      new Option(
        "--data-policy <policy>",
        "what you say of prompts and answers: none is kept, or this machine retains some. Consumers who allow no data collection reach only none",
      )
        .choices(dataPolicySchema.options)
        .env("GFE_DATA_POLICY"),
    )
    .addOption(
      new Option("--alias <name=model>", "another name for a model; may be repeated, or several with commas")
        .env("GFE_ALIASES")
        .argParser(toAliases),
    )
    .option("--scripted", "serve a scripted engine, labelled as such, that runs no model")
    .option("--config-dir <dir>", "where the node's key is kept, instead of the XDG directory")
    .option("--json", "one JSON object a line for each event")
    .addHelpText(
      "after",
      "\nCtrl-C lets running answers end first; a second Ctrl-C stops at once.\nExamples:\n  gfe up --hub https://hub.example.org\n  gfe up --model-path ./model.gguf --price request=0,in=0.2,out=0.6\n\nTraces of attempts go to the OpenTelemetry collector that OTEL_EXPORTER_OTLP_ENDPOINT names, if it is set: docs/tracing.md.\n",
    )
    .action(reporting(up));
}

async function up(options: UpOptions): Promise<void> {
  const host = createNodeHost({
    log: { info() {}, warn: (_fields, message) => console.error(`warning: ${message}`) },
    ...(options.configDir ? { configDir: options.configDir, stateDir: options.configDir } : {}),
  });
  const say = createLines((text) => process.stdout.write(text));
  const tell = (event: AgentEvent) => (options.json ? say(JSON.stringify(event)) : print(event, say));
  const tracing = await traced();
  const token = await agentToken(host, options);
  const stopping = new AbortController();
  const onEarly = () => stopping.abort();
  const forget = onStopSignals(onEarly, onEarly);
  const engines = ownEngines(host, options);
  const detect = whereToLook(options);
  const agent = await startAgent({
    host,
    hubUrl: options.hub,
    token,
    engines,
    ...(detect ? { detect } : {}),
    ...(options.price ? { prices: { default: options.price } } : {}),
    ...(options.slots ? { slots: options.slots } : {}),
    ...(options.name ? { name: options.name } : {}),
    ...(options.region ? { region: options.region } : {}),
    ...(options.dataPolicy ? { dataPolicy: options.dataPolicy } : {}),
    ...(options.alias ? { aliases: options.alias } : {}),
    ...(tracing ? { tracer: tracing.tracer } : {}),
    signal: stopping.signal,
    onEvent: tell,
  });
  forget();
  onStopSignals(
    () => void agent.drain(),
    () => void agent.stop(),
  );
  const end = await agent.done;
  await tracing?.close();
  if (end.type === "fault") throw new Failure(end.error.message);
  process.exit(0);
}

/** Where the environment asks for traces: to this node's owner, and nobody else. */
async function traced(): Promise<Tracing | null> {
  const parsed = parseTracingSettings(process.env);
  if (!parsed.ok)
    throw new Failure(parsed.problems.map(({ variable, message }) => `${variable} ${message}`).join("; "));
  return startTracing(parsed.settings, {
    ...{ name: "gfe-agent", version: AGENT_VERSION },
    onLost: (error) => console.error(`warning: traces are lost: ${error}`),
  });
}

function ownEngines(host: Host, options: UpOptions): Engine[] {
  const modelPath = options.modelPath ?? process.env.GFE_MODEL;
  return [
    ...(options.scripted ? [createScriptedEngine(host)] : []),
    ...(modelPath ? [createBuiltInEngine({ host, modelPath })] : []),
  ];
}

/** The usual ports and what was given; only what was given with --no-detect, or beside a script. */
function whereToLook({ engine: urls, detect, scripted, slots }: UpOptions): DetectOptions | null {
  const given = { urls, ...(slots ? { slots } : {}) };
  if (detect && !scripted) return given;
  return urls.length > 0 ? { ...given, ports: [] } : null;
}

/** Given, in the environment, kept from an earlier time, or by approval in a browser; kept for the next time then. */
async function agentToken(host: Host, options: UpOptions): Promise<string> {
  const given = options.token ?? process.env.GFE_AGENT_TOKEN;
  if (given) return given;
  const records = createHubRecords(host);
  const { origin } = parseHubAddress(options.hub);
  const { agentToken: kept } = await records.get(origin);
  if (kept) return kept;
  const grant = await requestDeviceGrant({
    host,
    hubUrl: options.hub,
    onCode: ({ userCode, verificationUri, verificationUriComplete, expiresInS }) => {
      if (options.json)
        console.log(
          JSON.stringify({ type: "code", userCode, verificationUri, verificationUriComplete, expiresInS }),
        );
      else
        console.log(
          `\n  Open    ${verificationUriComplete}\n  Code    ${userCode}\n\nWaiting for your approval (${Math.round(expiresInS / 60)} minutes) …`,
        );
    },
  });
  switch (grant.type) {
    case "approved":
      await records.put(origin, { agentToken: grant.agentToken });
      return grant.agentToken;
    case "denied":
      throw new Failure("the request was denied in the browser");
    case "expired":
      throw new Failure("nobody approved in time: run the command again");
    case "unavailable":
      throw new Failure(`${grant.message}. Is the hub at ${options.hub} running?`);
  }
}

function print(event: AgentEvent, say: (line: string) => void): void {
  switch (event.type) {
    case "engines":
      if (event.engines.length === 0)
        say(
          "No engine was found: start Ollama or another one, or give --model-path FILE.gguf. Looking again now and then.",
        );
      for (const { kind, label, models, error } of event.engines)
        say(`${error ? "✗" : "✓"} ${kind} at ${label}: ${error ?? `${models} model(s)`}`);
      return;
    case "offers":
      say(
        `Offering ${event.models.map(({ model, slots, aliases }) => `${[model, ...(aliases ?? [])].join(" = ")} × ${slots}`).join(", ") || "nothing yet"}`,
      );
      return;
    case "joined":
      return say(`Joined as ${event.nodeId}. Waiting for work.`);
    case "attempt.started":
      return; // told when it ends
    case "attempt.ended":
      return say(
        `${event.failure ? `✗ ${event.failure}` : "✓"} ${event.model}: ${event.inputTokens} + ${event.outputTokens} tokens in ${(event.durationMs / 1000).toFixed(1)} s`,
      );
    case "disconnected":
      return say(`Disconnected: ${event.reason}`);
    case "moved":
      return say("The hub restarts: its connection was closed, another one takes its place.");
    case "waiting":
      return say(`Trying again in ${(event.delayMs / 1000).toFixed(1)} s (${event.reason})`);
    case "refused":
      return say(`The hub refused a frame: ${event.message}`);
    case "draining":
      return say(
        event.running === 0
          ? "Leaving."
          : `Letting ${event.running} answer(s) end; Ctrl-C again stops at once.`,
      );
    case "ended":
      return;
  }
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new InvalidArgumentError(`${text} is not a whole number above zero`);
  return value;
}

function toPrice(text: string): PriceWire {
  const parsed = parsePrice(text);
  if (parsed.type === "invalid") throw new InvalidArgumentError(parsed.message);
  return parsed.price;
}

function toRegion(text: string): string {
  if (regionSchema.safeParse(text).success) return text;
  throw new InvalidArgumentError(
    "A region is 2 to 40 lower-case letters, digits and hyphens, such as eu-west.",
  );
}

function toAliases(text: string, before?: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
  const parsed = parseAliases(text, before);
  if (parsed.type === "invalid") throw new InvalidArgumentError(parsed.message);
  return parsed.aliases;
}
