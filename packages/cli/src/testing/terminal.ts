/** A program in a real pseudo-terminal, and a small reader of what it draws: enough of a terminal to see the panel. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";

/** Node has no pseudo-terminals of its own; Python's standard library does. */
const DRIVER = `
import fcntl, json, os, pty, select, struct, sys, termios
columns, rows = int(sys.argv[1]), int(sys.argv[2])
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[3], sys.argv[3:])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
keys = open(0, "rb", buffering=0)
watched = [fd, 0]
while True:
    ready = select.select(watched, [], [])[0]
    if 0 in ready:
        typed = keys.read(4096)
        if typed: os.write(fd, typed)
        else: watched.remove(0)
    if fd in ready:
        try: shown = os.read(fd, 65536)
        except OSError: shown = b""
        if not shown: break
        os.write(1, shown)
        flags = termios.tcgetattr(fd)[3]
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.stderr.write(json.dumps({"status": status, "echo": bool(flags & termios.ECHO), "lines": bool(flags & termios.ICANON)}))
`;

const SHOWS_MS = 15_000;

export interface TerminalEnd {
  status: number;
  /** Whether the terminal shows what is typed, and takes it line by line: as a shell leaves it. */
  echo: boolean;
  lines: boolean;
}

/** Whether this machine can run the driver. */
export function hasTerminals(): boolean {
  try {
    execFileSync("python3", ["-c", "import pty, termios, os; os.waitstatus_to_exitcode"], {
      stdio: "ignore",
    });
    return true;
  } catch {
    return false;
  }
}

export class TestTerminal {
  readonly ended: Promise<TerminalEnd>;
  /** Everything that was written to it. */
  raw = "";
  readonly #child: ChildProcess;
  readonly #listeners = new Set<() => void>();
  readonly #size: { columns: number; rows: number };

  constructor(command: readonly string[], env: Record<string, string>, size = { columns: 100, rows: 24 }) {
    this.#size = size;
    this.#child = spawn("python3", ["-c", DRIVER, String(size.columns), String(size.rows), ...command], {
      env: { PATH: process.env.PATH, HOME: "/nonexistent", TERM: "xterm-256color", ...env },
      stdio: ["pipe", "pipe", "pipe"],
    });
    let told = "";
    this.#child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      this.raw += text;
      for (const look of [...this.#listeners]) look();
    });
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      told += text;
    });
    this.ended = new Promise((resolve, reject) =>
      this.#child.once("close", () => {
        try {
          resolve(JSON.parse(told) as TerminalEnd);
        } catch {
          reject(new Error(`the driver ended: ${told}\n${this.raw}`));
        }
      }),
    );
    this.ended.catch(() => {}); // told where it is awaited
  }

  type(keys: string): void {
    this.#child.stdin!.write(keys);
  }

  /** What it shows now, without the blank ends of lines. */
  get screen(): string {
    return drawn(this.raw, this.#size);
  }

  /** Resolves when the screen matches; rejects where the program ends without, or takes too long. */
  async shows(pattern: RegExp): Promise<void> {
    const shown = Promise.withResolvers<void>();
    const look = () => pattern.test(this.screen) && shown.resolve();
    const timer = setTimeout(() => shown.reject(new Error("in time")), SHOWS_MS);
    this.#listeners.add(look);
    this.ended.then((end) => shown.reject(new Error(JSON.stringify(end))), shown.reject);
    look();
    try {
      await shown.promise;
    } catch (cause) {
      const tail = JSON.stringify(this.raw.slice(-1000));
      throw new Error(`it never showed ${pattern}: ${String(cause)}\n${this.screen}\n${tail}`);
    } finally {
      clearTimeout(timer);
      this.#listeners.delete(look);
    }
  }

  /** Ends it, whatever it does. */
  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

/** The screen after these bytes: cursor addressing, erasing, the other screen; colours and modes are passed over. */
function drawn(raw: string, { columns, rows }: { columns: number; rows: number }): string {
  const blank = () => Array.from({ length: rows }, () => "");
  let lines = blank();
  let [row, column] = [0, 0];
  let kept = { lines, row, column };
  const put = (character: string) => {
    if (column < columns)
      lines[row] = lines[row]!.padEnd(column).slice(0, column) + character + lines[row]!.slice(column + 1);
    column++;
  };
  const sequences = new RegExp(`${String.fromCharCode(27)}\\[([?0-9;]*)([A-Za-z])|([\\s\\S])`, "gu");
  for (const [, parameters = "", command, character] of raw.matchAll(sequences)) {
    if (character === "\n") {
      if (row < rows - 1) row++;
      else lines = [...lines.slice(1), ""];
    } else if (character === "\r") column = 0;
    else if (character !== undefined) put(character);
    else if (command === "H")
      [row, column] = parameters.split(";").map((part) => Number(part || 1) - 1) as [number, number];
    else if (command === "K") lines[row] = lines[row]!.slice(0, column);
    else if (command === "J") lines = blank();
    else if (parameters === "?1049" && command === "h") [kept, lines] = [{ lines, row, column }, blank()];
    else if (parameters === "?1049" && command === "l") ({ lines, row, column } = kept);
  }
  return lines.map((line) => line.trimEnd()).join("\n");
}
