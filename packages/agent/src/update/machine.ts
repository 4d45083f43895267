/**
 * How an update goes, as a pure function of what happened. The updater does what it says, and tells it how that went.
 *
 *   resting ─due─► checking ─newer─► downloading ─► draining ─► replacing ─► proving ─joined─► restarting
 *      ▲              │ none, refused, or only told      │                      │ crashed, silent
 *      └──────────────┴──────────────────────────────────┘ failed               └─► undoing ─► restarting (the old one)
 */
import { compareVersions, type ReleaseFile, type ReleaseManifest } from "@gfe/protocol";

export const updateModes = ["auto", "notify", "off"] as const;
export type UpdateMode = (typeof updateModes)[number];

/** What outlives the program, in `update.json` of its state directory. */
export interface UpdateRecord {
  /** The latest time of signing that was seen; what was signed before is an old release, shown again. */
  seenSignedAtS: number;
  /** A version that did not work here. */
  failed: { version: string; tries: number } | null;
  /** The program is being exchanged; whoever finds this at its start is the one on trial, or the one that is back. */
  trial: { from: string; to: string; untilMs: number } | null;
}
export const NO_RECORD: UpdateRecord = { seenSignedAtS: 0, failed: null, trial: null };

/** A version that failed so often is not tried again; the next one is. */
export const TRIES_MAX = 3;

export interface Target {
  version: string;
  file: ReleaseFile;
}

export type Finding =
  | { type: "current" }
  | { type: "newer"; version: string; target: Target | null }
  | { type: "refused"; reason: string };

/** What a verified manifest means for a program of `version` that is one of its files. */
export function judge(
  { manifest, signedAtS }: { manifest: ReleaseManifest; signedAtS: number },
  record: UpdateRecord,
  own: { version: string; target: Pick<ReleaseFile, "os" | "arch" | "kind"> | null },
): Finding {
  if (signedAtS < record.seenSignedAtS)
    return { type: "refused", reason: "it was signed before one that was seen already" };
  const { version, files } = manifest;
  if (compareVersions(version, own.version) <= 0) return { type: "current" };
  const { target } = own;
  const file = target
    ? files.find(({ os, arch, kind }) => os === target.os && arch === target.arch && kind === target.kind)
    : undefined;
  const isGivenUp = record.failed?.version === version && record.failed.tries >= TRIES_MAX;
  return { type: "newer", version, target: file && !isGivenUp ? { version, file } : null };
}

/**
 * What a program finds itself to be at its start. A trial that nobody waits for any longer, after a power cut, is none: what lies
 * there serves.
 */
export function roleAtStart(
  { trial }: UpdateRecord,
  version: string,
  nowMs: number,
): "ordinary" | "on_trial" | "cut_off" {
  if (trial === null) return "ordinary";
  return trial.to === version && nowMs < trial.untilMs ? "on_trial" : "cut_off";
}

export type Phase =
  | { name: "resting" }
  | { name: "checking" }
  | { name: "downloading" | "draining" | "replacing" | "proving"; target: Target }
  | { name: "undoing"; target: Target; reason: string }
  | { name: "restarting" };

export type UpdateEvent =
  | { type: "due" }
  | { type: "found"; finding: Finding; mode: UpdateMode }
  | { type: "done" }
  | { type: "failed"; reason: string };

/** What is to be done now, once: its end comes back as `found`, `done` or `failed`. */
export type Effect =
  | { type: "check" }
  | { type: "download" | "drain" | "replace" | "prove"; target: Target }
  | { type: "undo"; target: Target; reason: string }
  | { type: "restart" }
  | { type: "rest" }
  | { type: "tell"; version: string }
  | { type: "warn"; reason: string };

export interface Step {
  phase: Phase;
  effects: Effect[];
}

const rest = (...effects: Effect[]): Step => ({
  phase: { name: "resting" },
  effects: [...effects, { type: "rest" }],
});

/** An event that does not belong to its phase changes nothing. */
export function step(phase: Phase, event: UpdateEvent): Step {
  const stays: Step = { phase, effects: [] };
  switch (phase.name) {
    case "resting":
      return event.type === "due" ? { phase: { name: "checking" }, effects: [{ type: "check" }] } : stays;
    case "checking":
      if (event.type === "failed") return rest({ type: "warn", reason: event.reason });
      return event.type === "found" ? found(event.finding, event.mode) : stays;
    case "downloading":
      return next(phase.target, "draining", "drain", event, stays);
    case "draining":
      return next(phase.target, "replacing", "replace", event, stays);
    case "replacing":
      // Nothing was exchanged, but the agent has left: the program begins anew as it was.
      if (event.type === "failed") return restart({ type: "warn", reason: event.reason });
      return next(phase.target, "proving", "prove", event, stays);
    case "proving": {
      if (event.type === "done") return restart();
      if (event.type !== "failed") return stays;
      const undoing = { target: phase.target, reason: event.reason };
      return { phase: { name: "undoing", ...undoing }, effects: [{ type: "undo", ...undoing }] };
    }
    case "undoing":
      if (event.type === "failed") return restart({ type: "warn", reason: event.reason });
      return event.type === "done" ? restart({ type: "warn", reason: phase.reason }) : stays;
    case "restarting":
      return stays;
  }
}

const restart = (...effects: Effect[]): Step => ({
  phase: { name: "restarting" },
  effects: [...effects, { type: "restart" }],
});

function found(finding: Finding, mode: UpdateMode): Step {
  if (finding.type === "refused") return rest({ type: "warn", reason: finding.reason });
  if (finding.type === "current" || mode === "off") return rest();
  const { target, version } = finding;
  if (mode === "notify" || !target) return rest({ type: "tell", version });
  return { phase: { name: "downloading", target }, effects: [{ type: "download", target }] };
}

function next(
  target: Target,
  name: "draining" | "replacing" | "proving",
  type: "drain" | "replace" | "prove",
  event: UpdateEvent,
  stays: Step,
): Step {
  if (event.type === "failed") return rest({ type: "warn", reason: event.reason });
  return event.type === "done" ? { phase: { name, target }, effects: [{ type, target }] } : stays;
}
