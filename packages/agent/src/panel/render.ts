/** The live panel as lines of text: a pure function of what the agent tells, for any size of terminal. */
import { formatCredits } from "@gfe/protocol";
import { type AgentRecord, wordsOf } from "../control/records.ts";
import { type AgentStatus, counted, type GpuReading, type Standing, standingOf } from "../control/status.ts";
import { type Line, type Piece, spread, type Tone, tone, written } from "./style.ts";
import { durationText, gib, minutesText, padded, printable } from "./text.ts";

export interface PanelView {
  status: AgentStatus;
  /** Oldest first. */
  records: readonly AgentRecord[];
  /** Shown instead of the keys: a question with what was typed, or what the last key did. */
  prompt: string | null;
  help: boolean;
  /** Minutes east of UTC, for the events' times. */
  zoneMinutes: number;
}

export interface PanelSize {
  columns: number;
  rows: number;
}

/** Below it a table's column is left out. */
const NARROW = 64;
const LABEL = 10;
const ATTEMPTS_SHOWN = 8;
const MODELS_SHOWN = 8;

const LOOK: Record<Standing["state"], { tone: Tone; mark: string; word: string }> = {
  serving: { tone: "good", mark: "●", word: "Serving" },
  idle: { tone: "warn", mark: "○", word: "Idle" },
  paused: { tone: "warn", mark: "‖", word: "Paused" },
  offline: { tone: "bad", mark: "✗", word: "Offline" },
  draining: { tone: "warn", mark: "◌", word: "Leaving" },
};

const KEYS: readonly (readonly [string, string])[] = [
  ["p", "pause"],
  ["l", "limits"],
  ["s", "schedule"],
  ["q", "quit"],
  ["?", "help"],
];

const HELP: readonly (readonly [string, string])[] = [
  ["p", "pause, and resume: what runs goes on at other nodes, the models leave the GPU's memory"],
  ["l", "limits: how many answers at once; type a number, Enter sets it, Esc leaves it"],
  ["s", "schedule on or off; `gfe schedule add mon-fri 22:00-07:00` makes one"],
  ["q", "drain and quit: running answers end first; once more stops at once. Ctrl-C does the same"],
  ["Ctrl-Z", "to the shell's background; it goes on when you type `fg`"],
  ["Ctrl-L", "draw all of it anew"],
];

/** At most `rows` lines, each at most `columns` wide. Nothing of it moves the cursor. */
export function render(view: PanelView, { columns, rows }: PanelSize, colour: boolean): string[] {
  const body = view.help ? helpLines() : statusLines(view, columns);
  const foot: Line = view.prompt === null ? keyLine() : [tone("strong", printable(view.prompt))];
  const room = Math.max(0, rows - 1);
  const events = view.help ? [] : eventLines(view, room - body.length);
  const lines = [...body, ...events].slice(0, room);
  while (lines.length < room) lines.push([]);
  return [...lines, foot].slice(0, Math.max(1, rows)).map((line) => written(line, columns, colour));
}

function statusLines({ status }: PanelView, columns: number): Line[] {
  const { name, hub, now_ms, started_at_ms } = status;
  const standing = standingOf(status);
  const look = LOOK[standing.state];
  const host = printable(hub.replace(/^https?:\/\//, ""));
  return [
    spread(
      [tone("gold", "GPU For Everyone"), tone("dim", " · "), tone("strong", printable(name))],
      [tone("dim", `${host} · up ${minutesText(now_ms - started_at_ms)}`)],
      columns,
    ),
    [tone(look.tone, `${look.mark} ${look.word}`), tone("dim", " — "), printable(standing.words)],
    [],
    earnedLine(status, columns),
    ...gpuLines(status.gpus, columns),
    ...(status.waiting === null
      ? []
      : [labelled("Queue", `${counted(status.waiting, "request")} at the hub`)]),
    [],
    ...attemptLines(status, columns),
    ...modelLines(status, columns),
    [],
  ];
}

const labelled = (label: string, ...rest: Piece[]): Line => [tone("dim", padded(label, LABEL)), ...rest];

const credits = (micro: string): string => {
  const [whole, fraction = ""] = formatCredits(BigInt(micro)).split(".");
  const short = fraction.slice(0, 2).replace(/0+$/, "");
  return short === "" ? whole! : `${whole}.${short}`;
};

function earnedLine({ earnings }: AgentStatus, columns: number): Line {
  if (earnings === null) return labelled("Earned", tone("dim", "not told yet"));
  const balance: Piece[] = [tone("dim", "  balance "), credits(earnings.available_micro)];
  return labelled(
    "Earned",
    tone("gold", `${credits(earnings.today_micro)} credits`),
    ` today, ${counted(earnings.jobs_today, "answer")}`,
    tone("dim", "  rate "),
    `${credits(earnings.hour_micro)}/h`,
    ...(columns < NARROW ? [] : balance),
  );
}

function gpuLines(gpus: readonly GpuReading[], columns: number): Line[] {
  const told = (value: number | null, unit: string) =>
    value === null ? [] : [`${Math.round(value)} ${unit}`];
  return gpus.map((gpu, index) => {
    const memory =
      gpu.memory_used_bytes === null || gpu.memory_bytes === null
        ? []
        : [`${gib(gpu.memory_used_bytes)}/${gib(gpu.memory_bytes)} GiB`];
    const facts = [
      ...told(gpu.load_percent, "%"),
      ...memory,
      ...told(gpu.temperature_c, "°C"),
      ...told(gpu.power_w, "W"),
    ];
    const name = printable(gpu.name);
    const shown = columns < NARROW ? [] : [padded(name, Math.min(28, Math.max(12, columns - 60))), "  "];
    return labelled(index === 0 ? "GPU" : "", ...shown, facts.join("  ") || tone("dim", "no readings"));
  });
}

function attemptLines({ attempts, slots, now_ms }: AgentStatus, columns: number): Line[] {
  if (attempts.length === 0) return [];
  const width = columns < NARROW ? Math.max(8, columns - 34) : Math.min(40, columns - 40);
  const shown = attempts.slice(0, ATTEMPTS_SHOWN);
  return [
    [tone("strong", `Running, ${attempts.length} of ${slots}`)],
    ...shown.map(
      (attempt): Line => [
        "  ",
        padded(printable(attempt.model), width),
        `${attempt.tokens}`.padStart(7),
        tone("dim", " tokens"),
        `${attempt.tokens_s === null ? "–" : attempt.tokens_s.toFixed(1)}`.padStart(7),
        tone("dim", "/s"),
        `  ${durationText(now_ms - attempt.started_at_ms)}`,
      ],
    ),
    ...more(attempts.length - shown.length),
    [],
  ];
}

function modelLines({ offers, engines, withdrawn }: AgentStatus, columns: number): Line[] {
  const broken = engines.filter(({ error }) => error !== null);
  if (offers.length + broken.length + withdrawn.length === 0) return [];
  const width = Math.min(48, Math.max(10, columns - 30));
  const shown = offers.slice(0, MODELS_SHOWN);
  return [
    [tone("strong", "Models")],
    ...shown.map(
      ({ model, slots, running, engine }): Line => [
        "  ",
        padded(printable(model), width),
        `${running}/${slots}`.padStart(6),
        tone("dim", `  ${printable(engine)}`),
      ],
    ),
    ...more(offers.length - shown.length),
    ...withdrawn
      .slice(0, MODELS_SHOWN)
      .map(({ model, reason }): Line => [tone("bad", "  ✗ "), printable(`${model} is kept back: ${reason}`)]),
    ...broken.map(
      ({ kind, label, error }): Line => [tone("bad", "  ✗ "), printable(`${kind} at ${label}: ${error}`)],
    ),
  ];
}

const more = (count: number): Line[] => (count > 0 ? [[tone("dim", `  and ${count} more`)]] : []);

/** The last ones that there is room for, the newest at the end. */
function eventLines({ records, zoneMinutes }: PanelView, room: number): Line[] {
  if (room < 2) return [];
  const lines = records.flatMap((record): Line[] => {
    const words = wordsOf(record);
    if (words === null) return [];
    const time = tone("dim", clock(record.at_ms, zoneMinutes));
    return words.split("\n").map((line) => ["  ", time, "  ", printable(line)]);
  });
  return lines.length === 0 ? [] : [[tone("strong", "Events")], ...lines.slice(-(room - 1))];
}

/** "19:05:09" in a zone that is `zoneMinutes` east of UTC. */
export const clock = (atMs: number, zoneMinutes: number): string =>
  new Date(atMs + zoneMinutes * 60_000).toISOString().slice(11, 19);

const helpLines = (): Line[] => [
  [tone("gold", "Keys")],
  [],
  ...HELP.map(([key, meaning]): Line => ["  ", tone("strong", padded(key, 8)), meaning]),
  [],
  [
    tone(
      "dim",
      "Any key goes back. Commands for another terminal: gfe status, logs, limits, doctor; gfe --help.",
    ),
  ],
];

const keyLine = (): Line =>
  KEYS.flatMap(([key, meaning], index): Piece[] => [
    index === 0 ? "" : "  ",
    tone("strong", key),
    tone("dim", ` ${meaning}`),
  ]);
