import {
  AGENT_VERSION,
  type AgentEvent,
  createBuiltInEngine,
  createHubRecords,
  createScriptedEngine,
  type DetectOptions,
  type Engine,
  type Host,
  parseHubAddress,
  requestDeviceGrant,
  startAgent,
} from "@gfe/agent";
import type { DataPolicy, PriceWire } from "@gfe/protocol";
import { parseTracingSettings, startTracing, type Tracing } from "@gfe/tracing";
import { Failure } from "../failure.ts";
import { createLines } from "../lines.ts";
import { onStopSignals } from "../signals.ts";

export interface UpOptions {
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
  json?: boolean;
}

export async function up(host: Host, options: UpOptions): Promise<number> {
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

function ownEngines(host: Host, { scripted, modelPath }: UpOptions): Engine[] {
  return [
    ...(scripted ? [createScriptedEngine(host)] : []),
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
  const given = options.token;
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
