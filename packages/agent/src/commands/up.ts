/** `gfe up`: gets a token, starts the agent, and shows what it does until it ends. */
import type { DataPolicy, PriceWire } from "@gfe/protocol";
import type { Tracer } from "@gfe/tracing";
import { type Agent, type AgentEvent, type AgentOptions, startAgent } from "../agent.ts";
import { askAgent } from "../control/client.ts";
import { type Control, startControl } from "../control/control.ts";
import { windowText } from "../control/owner.ts";
import { recordOf, wordsOf } from "../control/records.ts";
import { counted } from "../control/status.ts";
import type { DetectOptions } from "../engines/detect.ts";
import type { Engine } from "../engines/engine.ts";
import type { SlotLimits } from "../engines/slot-limits.ts";
import { AgentError } from "../errors.ts";
import { EndpointTaken, type Host } from "../host.ts";
import { parseHubAddress } from "../hub-address.ts";
import { openPanel, type Panel, type PanelActions } from "../panel/panel.ts";
import { printable } from "../panel/text.ts";
import type { Program } from "../program.ts";
import type { SandboxStatus } from "../sandbox/sandbox.ts";
import type { UpdateMode } from "../update/machine.ts";
import { openUpdates } from "../update/open.ts";
import { isOnTrial, type Updater } from "../update/updater.ts";
import { AGENT_VERSION } from "../version.ts";
import { EXIT, type Output } from "./command.ts";
import { alreadyRunning } from "./running.ts";
import { agentToken } from "./token.ts";

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
  const view = showing(host, options, out, control);
  for (const { what, cure } of parts.sandbox?.problems ?? []) view.log.warn({}, `${what}; ${cure}`);
  let stopped = false;
  parts.onStopSignals(
    () => {
      stopped = true;
      control.drain(false);
    },
    () => control.drain(true),
  );
  const onTrial = parts.program !== undefined && (await isOnTrial(host, AGENT_VERSION));
  let updater: Updater | null = null;
  let agent: Agent | null = null;
  try {
    if (!onTrial)
      updater = openUpdates({
        ...{ host, program: parts.program, origin, mode: options.updates ?? "notify" },
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

interface View {
  log: Host["log"];
  event(event: AgentEvent): void;
  /** A line that is no event: news of a release. */
  tell(text: string): void;
  close(): void;
}

/** The panel where somebody looks at a terminal, else lines or JSON. */
function showing(host: Host, options: UpOptions, out: Output, control: Control): View {
  const warn = (message: string) => out.error(`warning: ${printable(message)}`);
  if (options.json)
    return {
      log: logTo(warn),
      event: (event) => out.line(JSON.stringify(event)),
      tell: (message) => out.line(JSON.stringify({ type: "update", message })),
      close() {},
    };
  const tell = (message: string) => out.line(printable(message));
  const say = (event: AgentEvent) => {
    const words = wordsOf(recordOf(event, host.nowMs()));
    for (const line of words?.split("\n") ?? []) out.line(printable(line));
  };
  const { terminal } = host;
  if (!terminal || options.plain) return { log: logTo(warn), event: say, tell, close() {} };
  const panel: Panel = openPanel({
    ...{ host, terminal, status: control.status, journal: control.journal, onChange: control.onChange },
    actions: {
      ...ownerActions(control),
      drain: control.drain,
    },
  });
  const record = (type: "warning" | "update") => (message: string) => {
    if (closed) return type === "warning" ? warn(message) : tell(message);
    control.journal.put({ at_ms: Math.round(host.nowMs()), type, message: message.slice(0, 300) });
  };
  let closed = false;
  return {
    log: logTo(record("warning")),
    event() {},
    tell: record("update"),
    close() {
      closed = true;
      panel.close();
      const { done, failed, output_tokens } = control.status().served;
      out.line(
        `Left the hub. ${counted(done, "answer")} with ${counted(output_tokens, "token")}${failed > 0 ? `, ${failed} failed` : ""}.`,
      );
    },
  };
}

/** What the panel's keys set; the words say how it stands then. */
function ownerActions({ guest }: Control): Omit<PanelActions, "drain"> {
  return {
    async togglePause() {
      if (guest.state().reasons.some(({ code }) => code === "owner_paused")) {
        guest.resume();
        return "Resumed.";
      }
      guest.pause(null);
      return "Paused: what runs goes on at other nodes. p goes on here.";
    },
    async setSlots(slots) {
      const settings = guest.settings();
      await guest.put({ ...settings, limits: { ...settings.limits, slots } });
      return `${counted(slots, "answer")} at once.`;
    },
    async toggleSchedule() {
      const settings = guest.settings();
      const { on, windows } = settings.schedule;
      if (windows.length === 0)
        return "There is no schedule: `gfe schedule add mon-fri 22:00-07:00` makes one.";
      await guest.put({ ...settings, schedule: { on: !on, windows } });
      return on
        ? "The schedule is off: it serves at any time."
        : `On: ${windows.map(windowText).join(", ")}.`;
    },
  };
}

const logTo = (warn: (message: string) => void): Host["log"] => ({
  info() {},
  warn: (_fields, message) => warn(message),
});
