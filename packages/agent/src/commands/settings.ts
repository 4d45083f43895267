/** `gfe limits` and `gfe schedule`: kept for the next start, and in force at once where an agent runs. */
import { askAgent } from "../control/client.ts";
import { daysOf, hoursOf, type Limits, type PauseWhen, type Schedule, windowText } from "../control/owner.ts";
import { type GuestSettings, readSettings, writeSettings } from "../control/settings.ts";
import type { SlotLimits } from "../engines/slot-limits.ts";
import type { Host } from "../host.ts";
import { EXIT, type Output } from "./command.ts";

interface LimitsOptions {
  slots?: number | "off";
  engineSlots?: SlotLimits | "off";
  temperature?: number | "off";
  power?: number | "off";
  memory?: number | "off";
  hours?: number | "off";
  keyboard?: number | "off";
  games?: boolean;
  battery?: boolean;
  metered?: boolean;
  json?: boolean;
}

const UNLIMITED = "no limit";

/** `gfe limits`: sets those that are named, and shows all. */
export async function limitsCommand(host: Host, options: LimitsOptions, out: Output): Promise<number> {
  const { slots, engineSlots, temperature, power, memory, hours } = options;
  const named = Object.entries({
    engine_slots: engineSlots instanceof Map ? Object.fromEntries(engineSlots) : engineSlots,
    ...{ slots, temperature_c: temperature, power_w: power },
    ...{ memory_percent: memory, daily_hours: hours },
  }).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, value === "off" ? null : value] as const],
  );
  const { keyboard, games, battery, metered } = options;
  const when = Object.entries({
    keyboard_minutes: keyboard === "off" ? null : keyboard,
    ...{ game: games, battery, metered },
  }).filter(([, value]) => value !== undefined);
  const wanted: Change = {
    ...(named.length === 0 ? {} : { limits: Object.fromEntries(named) }),
    ...(when.length === 0 ? {} : { pauseWhen: Object.fromEntries(when) }),
  };
  return change(host, options, out, wanted, ({ limits, pause_when }) => {
    const shown = (value: number | null | undefined, unit: string) =>
      value === null || value === undefined ? UNLIMITED : `${value}${unit}`;
    out.line(`Answers at once  ${shown(limits.slots, "")}`);
    const engines = Object.entries(limits.engine_slots ?? {}).map(([engine, count]) => `${engine}=${count}`);
    out.line(`Of an engine     ${engines.join(", ") || UNLIMITED}`);
    out.line(`Temperature      ${shown(limits.temperature_c, " °C")}`);
    out.line(`Power            ${shown(limits.power_w, " W")}`);
    out.line(`Others' memory   ${shown(limits.memory_percent, " %")}`);
    out.line(`A day            ${shown(limits.daily_hours, " h")}`);
    const minutes = pause_when.keyboard_minutes;
    const paused = (is: boolean) => (is ? "pauses" : "serves");
    out.line(`At the keyboard  ${minutes === null ? "serves" : `pauses for ${minutes} min`}`);
    out.line(`During games     ${paused(pause_when.game)}`);
    out.line(`On battery       ${paused(pause_when.battery)}`);
    out.line(`Metered network  ${paused(pause_when.metered)}`);
  });
}

/** `gfe schedule list`. */
export const scheduleList = (host: Host, options: { json?: boolean }, out: Output): Promise<number> =>
  change(host, options, out, {}, ({ schedule }) => printSchedule(schedule, out));

/** `gfe schedule add`. */
export async function scheduleAdd(
  host: Host,
  options: { days: string; hours: string; json?: boolean },
  out: Output,
): Promise<number> {
  const hours = hoursOf(options.hours);
  if (daysOf(options.days) === null)
    return refused(`"${options.days}" are no days: write mon-fri, sat,sun or daily`, out);
  if (!hours) return refused(`"${options.hours}" are no hours: write 22:00-07:00`, out);
  const window = { days: options.days, ...hours };
  const add = ({ windows }: Schedule): Schedule => ({
    on: true,
    windows: windows.some((other) => windowText(other) === windowText(window))
      ? windows
      : [...windows, window],
  });
  return change(host, options, out, { schedule: add }, ({ schedule }) => printSchedule(schedule, out));
}

/** `gfe schedule clear`. */
export const scheduleClear = (host: Host, options: { json?: boolean }, out: Output): Promise<number> =>
  change(host, options, out, { schedule: () => ({ on: true, windows: [] }) }, ({ schedule }) =>
    printSchedule(schedule, out),
  );

function printSchedule({ on, windows }: Schedule, out: Output): void {
  if (windows.length === 0) return out.line("It serves at any time: there is no schedule.");
  out.line(
    on
      ? "It serves within these windows, by this machine's clock:"
      : "These windows are off; it serves at any time:",
  );
  for (const window of windows) out.line(`  ${windowText(window)}`);
}

function refused(message: string, out: Output): number {
  out.error(`gfe: ${message}`);
  return EXIT.failed;
}

interface Change {
  limits?: Partial<Limits>;
  schedule?: (before: Schedule) => Schedule;
  pauseWhen?: Partial<PauseWhen>;
}

/** Through the running agent, which keeps it, too; else in the file that the next one reads. */
async function change(
  host: Host,
  { json }: { json?: boolean },
  out: Output,
  { limits, schedule, pauseWhen }: Change,
  print: (settings: GuestSettings) => void,
): Promise<number> {
  const tell = (settings: GuestSettings) => {
    if (json) out.line(JSON.stringify(settings));
    else print(settings);
    return EXIT.fine;
  };
  let asked = await askAgent(host);
  if (asked.type === "refused") return refused(asked.message, out);
  if (asked.type === "status") {
    const before = asked.status;
    if (limits) asked = await askAgent(host, "/limits", limits);
    if (pauseWhen) asked = await askAgent(host, "/pause_when", pauseWhen);
    if (schedule) asked = await askAgent(host, "/schedule", schedule(before.schedule));
    if (asked.type === "status") {
      const { limits, schedule, pause_when } = asked.status;
      return tell({ limits, schedule, pause_when });
    }
    return refused(asked.type === "refused" ? asked.message : "the agent has just ended: try again", out);
  }
  try {
    const before = await readSettings(host);
    const after = {
      limits: { ...before.limits, ...limits },
      schedule: schedule ? schedule(before.schedule) : before.schedule,
      pause_when: { ...before.pause_when, ...pauseWhen },
    };
    if (limits || schedule || pauseWhen) await writeSettings(host, after);
    return tell(after);
  } catch (error) {
    return refused((error as Error).message, out);
  }
}
