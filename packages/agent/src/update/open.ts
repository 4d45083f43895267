/** Whether this program looks for updates, and with what. */
import { parseMinisignKey } from "@gfe/protocol";
import { BUILD } from "../build.ts";
import { AgentError } from "../errors.ts";
import type { Host } from "../host.ts";
import type { Program } from "../program.ts";
import { AGENT_VERSION } from "../version.ts";
import type { UpdateMode } from "./machine.ts";
import { createUpdater, isOnTrial as isOnTrialAs, UPDATE_LIMITS, type Updater } from "./updater.ts";

export interface OpenUpdates {
  host: Host;
  program: Program;
  /** Of the hub, whose downloads are looked at unless GFE_UPDATE_URL names others. */
  origin: string;
  mode: UpdateMode;
  tell(text: string): void;
  warn(text: string): void;
  drain(): void;
}

/**
 * Null where there is nothing to look for: off, run from sources, or built without a release key (GFE_RELEASE_KEY stands in for
 * one). Throws AgentError where a variable makes no sense: who set it wants it used.
 */
export function openUpdates({ origin, program, ...options }: OpenUpdates): Updater | null {
  const { env } = options.host;
  const text = env.GFE_RELEASE_KEY ?? BUILD.releaseKey;
  if (options.mode === "off" || program.kind === "source" || !text) return null;
  const key = parseMinisignKey(text);
  if (!key)
    throw new AgentError("invalid_setting", "GFE_RELEASE_KEY is not the second line of a minisign.pub");
  const base = (env.GFE_UPDATE_URL ?? `${origin}/download`).replace(/\/+$/, "");
  return createUpdater({ ...options, program, key, base, version: AGENT_VERSION, limits: limitsOf(env) });
}

/** Whether this program is a new one on trial: it joins its hub, then ends. */
export const isOnTrial = (host: Host): Promise<boolean> => isOnTrialAs(host, AGENT_VERSION);

/** GFE_UPDATE_INTERVAL is in seconds: between two looks, and the most until the first. */
function limitsOf({ GFE_UPDATE_INTERVAL: text }: Host["env"]): typeof UPDATE_LIMITS {
  if (!text) return UPDATE_LIMITS;
  if (!/^[1-9]\d{0,7}$/.test(text))
    throw new AgentError("invalid_setting", "GFE_UPDATE_INTERVAL is a whole number of seconds above zero");
  const everyMs = Number(text) * 1000;
  return { ...UPDATE_LIMITS, everyMs, firstMs: Math.min(UPDATE_LIMITS.firstMs, everyMs) };
}
