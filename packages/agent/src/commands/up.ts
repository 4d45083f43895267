/** `gfe up`: gets a token, starts the agent, and shows what it does until it ends. */
import type { DataPolicy, PriceWire } from "@gfe/protocol";
import type { Tracer } from "@gfe/tracing";
import { type Agent, type AgentOptions, startAgent } from "../agent.ts";
import { BUILD } from "../build.ts";
import { askAgent } from "../control/client.ts";
import { type Control, startControl } from "../control/control.ts";
import type { DetectOptions } from "../engines/detect.ts";
import type { Engine } from "../engines/engine.ts";
import type { SlotLimits } from "../engines/slot-limits.ts";
import { AgentError } from "../errors.ts";
import { checkHome } from "../home.ts";
import { EndpointTaken, type Host } from "../host.ts";
import { parseHubAddress } from "../hub-address.ts";
import type { Program } from "../program.ts";
import type { SandboxStatus } from "../sandbox/sandbox.ts";
import type { UpdateMode } from "../update/machine.ts";
import type { Updater } from "../update/updater.ts";
import { EXIT, type Output } from "./command.ts";
import { alreadyRunning } from "./running.ts";
import { agentToken } from "./token.ts";
import { jsonView, plainView, type View } from "./up-view.ts";

export interface UpOptions {
  hub: string;
  token?: string;
  engine: readonly string[];
  detect: boolean;
  benchmark: boolean;
  scripted?: boolean;
  slots?: number;
  engineSlots?: SlotLimits;
  name?: string;
  price?: PriceWire;
  region?: string;
  dataPolicy?: DataPolicy;
  alias?: ReadonlyMap<string, string>;
  plain?: boolean;
  json?: boolean;
  updates?: UpdateMode;
}

/** What the program brings that runs the agent. */
export interface UpParts {
  /** Engines of its own, beside those that are found. */
  engines: readonly Engine[];
  /** What confines those that it starts. */
  sandbox?: SandboxStatus | null;
  /** Engines to serve where none is given or found. */
  fallback?: () => Promise<readonly Engine[]>;
  tracer?: Tracer | undefined;
  /** The program itself; without it nothing looks for updates. */
  program?: Program;
  /** Calls `first` at the first request to stop, `again` at each later one, until the process ends. */
  onStopSignals(first: () => void, again: () => void): void;
}

/** Resolves with the exit status when the agent has ended. */
export async function runUp(host: Host, options: UpOptions, out: Output, parts: UpParts): Promise<number> {
  try {
    return await run(host, options, out, parts);
  } catch (error) {
    if (!(error instanceof AgentError || error instanceof EndpointTaken)) throw error;
    out.error(`gfe: ${error instanceof AgentError ? error.message : await alreadyRunning(host)}`);
    return EXIT.failed;
  }
}

async function run(host: Host, options: UpOptions, out: Output, parts: UpParts): Promise<number> {
  const { origin } = parseHubAddress(options.hub);
  // Nobody shall approve an agent in the browser that cannot start; startControl settles it.
  await checkHome(host);
  if ((await askAgent(host)).type !== "not_running") throw new EndpointTaken(origin);
  const got = await agentToken(host, options, out);
  if (got.type === "failed") {
    out.error(`gfe: ${got.message}`);
    return EXIT.failed;
  }
  const stopping = new AbortController();
  const name = options.name ?? host.hostName;
  const abort = () => stopping.abort();
  const control = await startControl({
    host,
    hub: origin,
    token: got.token,
    name,
    abort,
    sandbox: parts.sandbox ?? null,
  });
  const view = await showing(host, options, out, control);
  for (const { what, cure } of parts.sandbox?.problems ?? []) view.log.warn({}, `${what}; ${cure}`);
  let stopped = false;
  parts.onStopSignals(
    () => {
      stopped = true;
      control.drain(false);
    },
    () => control.drain(true),
  );
  const { program } = parts;
  // From its sources a program has no releases, and without a key it trusts none.
  const key = host.env.GFE_RELEASE_KEY ?? BUILD.releaseKey;
  const updates = program && program.kind !== "source" && key ? await import("../update/open.ts") : null;
  const onTrial = updates !== null && (await updates.isOnTrial(host));
  let updater: Updater | null = null;
  let agent: Agent | null = null;
  try {
    if (updates && program && !onTrial)
      updater = updates.openUpdates({
        ...{ host, program, origin, mode: options.updates ?? "notify" },
        ...{ tell: view.tell, warn: (text) => view.log.warn({}, text), drain: () => control.drain(false) },
      });
    agent = await startAgent({
      ...agentOptions({ ...host, log: view.log }, options, parts),
      token: got.token,
      signal: stopping.signal,
      onEvent(event) {
        control.onEvent(event);
        view.event(event);
        if (onTrial && event.type === "joined") control.drain(false); // that is all it had to show
      },
    });
    control.joined(agent);
    const end = await agent.done;
    if (end.type === "fault") throw end.error;
  } catch (error) {
    // Who stops an agent that never joined has what was asked for; one on trial has shown nothing.
    if (stopping.signal.aborted && agent === null) return onTrial ? EXIT.failed : EXIT.fine;
    throw error;
  } finally {
    updater?.close();
    view.close();
    await control.close();
  }
  return (await updater?.left(() => stopped)) ?? EXIT.fine;
}

function agentOptions(
  host: Host,
  options: UpOptions,
  { engines, fallback, tracer }: UpParts,
): Omit<AgentOptions, "token"> {
  const detect = whereToLook(options, host.env.GFE_ENGINE_KEY);
  return {
    host,
    hubUrl: options.hub,
    engines,
    ...(fallback ? { fallback } : {}),
    ...(detect ? { detect } : {}),
    benchmark: options.benchmark,
    ...(options.price ? { prices: { default: options.price } } : {}),
    ...(options.slots ? { slots: options.slots } : {}),
    ...(options.engineSlots ? { slotLimits: options.engineSlots } : {}),
    ...(options.name ? { name: options.name } : {}),
    ...(options.region ? { region: options.region } : {}),
    ...(options.dataPolicy ? { dataPolicy: options.dataPolicy } : {}),
    ...(options.alias ? { aliases: options.alias } : {}),
    ...(tracer ? { tracer } : {}),
  };
}

/** The usual ports and what was given; only what was given with --no-detect, or beside a script. */
function whereToLook(
  { engine: urls, detect, scripted, slots }: UpOptions,
  apiKey: string | undefined,
): DetectOptions | null {
  const given = { urls, ...(slots ? { slots } : {}), ...(apiKey ? { apiKey } : {}) };
  if (detect && !scripted) return given;
  return urls.length > 0 ? { ...given, ports: [] } : null;
}

/** The panel where somebody looks at a terminal, else lines or JSON. */
async function showing(host: Host, options: UpOptions, out: Output, control: Control): Promise<View> {
  if (options.json) return jsonView(out);
  const { terminal } = host;
  if (!terminal || options.plain) return plainView(host, out);
  const { panelView } = await import("./up-panel.ts"); // most agents run where nobody looks
  return panelView(host, terminal, out, control);
}
