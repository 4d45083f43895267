/** Looks for releases now and then, and does what machine.ts says. */
import type { MinisignKey, ReleaseVerdict } from "@gfe/protocol";
import type { Host } from "../host.ts";
import { type Program, previousOf } from "../program.ts";
import { downloadFile, fetchManifest } from "./download.ts";
import {
  type Effect,
  judge,
  type Phase,
  roleAtStart,
  step,
  type Target,
  type UpdateEvent,
  type UpdateMode,
} from "./machine.ts";
import { readRecord, writeRecord } from "./record.ts";

export const UPDATE_LIMITS = {
  /** The first look, at the earliest; up to as much later again. */
  firstMs: 60_000,
  /** Between two looks, up to half of it more or less, so that not all agents come at once. */
  everyMs: 6 * 3_600_000,
  /** In which a new program must have joined its hub. */
  proveMs: 90_000,
};

export interface UpdaterOptions {
  host: Host;
  program: Program;
  version: string;
  mode: UpdateMode;
  key: MinisignKey;
  /** Where the manifest is: `https://hub.example/download`. */
  base: string;
  /** Tells the owner; one line. */
  tell(text: string): void;
  warn(text: string): void;
  /** Lets running answers end, then ends the agent. Its end is told by `left`. */
  drain(): void;
  limits?: typeof UPDATE_LIMITS;
}

export interface Updater {
  readonly phase: Phase;
  /** Looks now instead of at the next turn. */
  look(): Promise<void>;
  /**
   * The agent has ended and everything of it is closed. Where that was for an update, it is done now, and the exit status of the
   * program that went on is the answer, unless this process itself became it; null where there is nothing to do. An agent that its
   * owner `stopped`, meanwhile, too, stays so.
   */
  left(stopped: () => boolean): Promise<number | null>;
  /** Looks no more; `left` does what is under way. */
  close(): void;
}

/** Whether the program that starts is a new one on trial: it joins its hub, then ends. */
export async function isOnTrial(host: Host, version: string): Promise<boolean> {
  const record = await readRecord(host);
  const role = roleAtStart(record, version, host.nowMs());
  if (role === "cut_off") await writeRecord(host, { ...record, trial: null });
  return role === "on_trial";
}

export function createUpdater(options: UpdaterOptions): Updater {
  const { host, program, version, key, base, tell, warn, limits = UPDATE_LIMITS } = options;
  const { firstMs, everyMs, proveMs } = limits;
  let phase: Phase = { name: "resting" };
  let callOff = () => {};
  let closed = false;
  let told = "";
  let downloaded = "";
  let exitStatus: number | null = null;
  let stopped = () => false;

  /** Does what follows from the event, and from what follows from that, until it rests or waits for the agent's end. */
  async function happen(event: UpdateEvent): Promise<void> {
    for (let at: UpdateEvent | null = event; at !== null; ) {
      const { phase: after, effects } = step(phase, at);
      phase = after;
      at = null;
      for (const effect of effects) at = (await perform(effect)) ?? at;
    }
  }

  async function perform(effect: Effect): Promise<UpdateEvent | null> {
    try {
      return await does(effect);
    } catch (error) {
      return { type: "failed", reason: (error as Error).message };
    }
  }

  async function does(effect: Effect): Promise<UpdateEvent | null> {
    switch (effect.type) {
      case "check":
        return check(await fetchManifest(host, base, key));
      case "download":
        downloaded = await downloadFile(host, base, effect.target.file);
        return closed ? { type: "failed", reason: "the agent ended meanwhile" } : { type: "done" };
      case "drain":
        tell(`Version ${effect.target.version} is here: running answers end first.`);
        options.drain();
        return null; // `left` goes on
      case "replace":
        await startTrial(effect.target);
        return { type: "done" };
      case "prove":
        return prove(effect.target);
      case "undo":
        await program.replace(previousOf(program), `${program.command[0]}.failed`);
        await host.files.remove(`${program.command[0]}.failed`).catch(() => {});
        await endTrial(effect.target);
        return { type: "done" };
      case "restart":
        if (!stopped()) exitStatus = await program.restart();
        return null;
      case "tell":
        if (told !== effect.version) tell(newsOf(effect.version));
        told = effect.version;
        return null;
      case "warn":
        warn(`no update: ${effect.reason}`);
        return null;
      case "rest":
        if (!closed) lookIn(everyMs * (0.5 + host.random()));
        return null;
    }
  }

  async function check(verdict: ReleaseVerdict): Promise<UpdateEvent> {
    if (!verdict.ok)
      return { type: "failed", reason: `the release at ${base} was refused: ${verdict.reason}` };
    const record = await readRecord(host);
    const finding = judge(verdict, record, { version, target: program.target });
    if (finding.type !== "refused" && verdict.signedAtS > record.seenSignedAtS)
      await writeRecord(host, { ...record, seenSignedAtS: verdict.signedAtS });
    return { type: "found", finding, mode: options.mode };
  }

  const newsOf = (newer: string): string =>
    program.kind === "npm"
      ? `Version ${newer} is out: npm install -g gpu-for-everyone@${newer}`
      : program.kind === "executable"
        ? `Version ${newer} is out: start with --updates auto, or install it from ${base}`
        : `Version ${newer} is out.`;

  async function startTrial(target: Target): Promise<void> {
    const record = await readRecord(host);
    const trial = { from: version, to: target.version, untilMs: host.nowMs() + proveMs };
    await writeRecord(host, { ...record, trial });
    try {
      await program.replace(downloaded, previousOf(program));
    } catch (error) {
      await writeRecord(host, { ...record, trial: null });
      throw new Error(`${program.command[0]} could not be replaced: ${(error as Error).message}`);
    }
  }

  async function prove({ version: newer }: Target): Promise<UpdateEvent> {
    const [path, ...rest] = program.command;
    const result = await host.run(path, [...rest, ...program.args], { timeoutMs: proveMs });
    if (result.type !== "ran" || result.exitCode !== 0)
      return {
        type: "failed",
        reason: `version ${newer} did not join the hub (${
          result.type === "ran"
            ? `it ended with ${result.exitCode}`
            : result.type === "timeout"
              ? `nothing in ${proveMs / 1000} s`
              : "it could not be started"
        }): version ${version} goes on`,
      };
    const record = await readRecord(host);
    await writeRecord(host, { ...record, trial: null, failed: null });
    tell(`Updated from ${version} to ${newer}.`);
    return { type: "done" };
  }

  async function endTrial({ version: newer }: Target): Promise<void> {
    const record = await readRecord(host);
    const tries = record.failed?.version === newer ? record.failed.tries : 0;
    await writeRecord(host, { ...record, trial: null, failed: { version: newer, tries: tries + 1 } });
  }

  function lookIn(ms: number): void {
    callOff();
    callOff = host.after(ms, () => void happen({ type: "due" }));
  }

  function close(): void {
    closed = true;
    callOff();
  }

  if (options.mode !== "off") lookIn(firstMs * (1 + host.random()));
  return {
    get phase() {
      return phase;
    },
    look: () => happen({ type: "due" }),
    async left(isStopped) {
      stopped = isStopped;
      close();
      if (phase.name !== "draining" || stopped()) return null;
      await happen({ type: "done" });
      return exitStatus;
    },
    close,
  };
}
